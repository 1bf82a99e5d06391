"""Names and texts of people who mean harm: through the API and through the command line they are
texts, and never a path, a statement or a command to a terminal."""

from __future__ import annotations

import html
import json
import os
import pty
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from lllm import LogStore, PackageError, Tactic
from lllm.cli import main
from lllm.cli.open_store import open_store
from lllm.events import follow as logs
from lllm.events.errors import LllmError, SessionNotFound
from lllm.invokers.scripted import ScriptedInvoker, reply, tool_call
from lllm.packages.manifest import read_manifest
from lllm.projections.session.call_session import TacticCallSession
from lllm.projections.view import storable
from lllm.terminal_safe import visible

pytestmark = pytest.mark.slow

ESC = "\x1b"
NASTY = {
    "parent folder": "../../../../pwned",
    "absolute path": "/tmp/pwned/by/lllm",
    "windows path": "..\\..\\C:\\pwned",
    "nul": "a\0b",
    "quotes": 'it\'s "quoted" `here` \\',
    "sql": "'; DROP TABLE events; --",
    "sql wildcards": "%_*?[a]",
    "colours": f"{ESC}[31mred{ESC}[2J{ESC}[H",
    "title": f"{ESC}]0;owned\x07{ESC}]52;c;cm0gLXJm\x07",
    "link": f"{ESC}]8;;http://evil.test{ESC}\\click{ESC}]8;;{ESC}\\",
    "C1": "\x9b31m\x9d0;owned\x9c\x85\x90\x7f\b",
    "HTML": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "markup": "[red]a[/red] [link=http://evil.test]b[/link] [/] :smile:",
    "right to left": "\u202egnp.exe\u202c \u2066x\u2069 \u200f\u061c",
    "zero width": "a\u200bb\u2060c\ufeffd\u00ade\u034ff\u2064g\U000e0041",
    "lines": "a\nb\r\nc\x0b\x0cd\u2028\u2029e",
    "lone surrogates": "a\ud800b\udfffc",
    "formats": "%s %(name)s {0} {x!r} ${HOME} $(id) `id`",
    "option": "--store=/tmp/pwned",
    "mark": '{"$lllm":"bytes","base64":"?"}',
}
NAMES = pytest.mark.parametrize("name", list(NASTY.values()), ids=list(NASTY))

# What must not reach a terminal: all but plain characters, line ends and joiners.
HARMFUL = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ud800-\udfff\U000e0000-\U000e00ff]"
)
STYLE = re.compile(rf"{ESC}\[[0-9;]*m")  # select graphic rendition, ECMA-48 8.3.117


class Nasty(Tactic, register=False):
    """Everything that a session can be named, named by its task."""

    name = "nasty"

    def __init__(self, text: str, store: LogStore, *, fails: bool) -> None:
        type(self).name = text
        type(self).agent_group = (text,)
        self.fails = fails
        invoker = ScriptedInvoker([tool_call(text, {text: text}), reply(text, model=text)])
        agent = {"name": text, "model_name": text, "system_prompt": text, "invoker": invoker}
        super().__init__({"agent_configs": [agent]}, log_store=store)

    def call(self, task: object, **_: object) -> object:
        """One question, an unknown tool, an answer; and what comes of it."""
        agent = self.agents[str(task)]
        agent.open(str(task))
        agent.receive(task)
        answer = agent.respond().content
        if self.fails:
            raise RuntimeError(task)
        return answer


def write(store: LogStore, text: str) -> dict[str, str]:
    """Sessions with a text in every place that there is; their ids by what they are."""
    tags, metadata = {text: text, "k": text}, {text: [text]}
    with store.session(
        f"p::{text}", tags=tags, metadata=metadata, task=text, partition=text
    ) as one:
        one.deliver({text: text})
    Nasty(text, store, fails=False)(text, tags=tags, metadata=metadata)
    with suppress(RuntimeError):
        Nasty(text, store, fails=True)(text, tags=tags)
    store.tag(one.session_id, {f"{text} later": text}, remove=["k"], by=text)
    error = store.save_error(RuntimeError(text), context={text: text})
    return {"plain": one.session_id, "error": error}


class Written:
    """A store in which every text of NASTY stands everywhere, in a folder of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ids: dict[str, dict[str, str]] = {}
        with LogStore.open(str(path), partition="") as store:
            for text in NASTY.values():
                self.ids[text] = write(store, text)
        with open_store(str(path)) as store:
            self.all_ids = [one.session_id for one in store.list_sessions()]

    def schema(self) -> list[tuple[str, ...]]:
        """Every table, view, index and trigger, with its statement."""
        file = self.path / "rows.sqlite" if self.path.is_dir() else self.path
        connection = sqlite3.connect(file)
        try:
            found = connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
        finally:
            connection.close()
        return sorted((kind, name, str(sql)) for kind, name, sql in found)


@pytest.fixture(scope="module", params=["runs.db", "runs"])
def written(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Written]:
    """The store, in the current folder, deep enough that `../../../..` is ours to watch."""
    name: str = request.param
    root = tmp_path_factory.mktemp("hostile")
    here = root / "a" / "b" / "c" / "d" / "e"
    here.mkdir(parents=True)
    before = Path.cwd()
    os.chdir(here)
    try:
        empty = LogStore.open("empty-" + name, partition="")
        empty.close()
        store = Written(here / name)
        yield store
        kept = {"empty-" + name, name, f"{name}-lllm", f"empty-{name}-lllm", "out.json"}
        kept |= {f"{name}{end}" for end in ("-wal", "-shm")}
        strays = [
            one for one in root.rglob("*")
            if not any(part in kept for part in one.parts)
            and one not in (*here.parents, here)
        ]  # fmt: skip
        assert strays == []
        assert not Path("/tmp/pwned").exists()
    finally:
        os.chdir(before)


@pytest.fixture(scope="module")
def opened(written: Written) -> Iterator[LogStore]:
    """That store, opened again."""
    with open_store(str(written.path)) as store:
        yield store


# The command line does not know which backend it shows.
ONE_BACKEND = pytest.mark.parametrize("written", ["runs.db"], indirect=True)

# -- the API


@NAMES
def test_round_trip(written: Written, opened: LogStore, name: str) -> None:
    """Task, names, metadata, options, delivery, tags and errors come back as they were written."""
    session_id = written.ids[name]["plain"]
    record = opened.load_session_record(session_id)
    session = record.session
    assert (session.tactic_path, session.partition, session.task) == (f"p::{name}", name, name)
    assert session.tactic_name == f"p::{name}".rpartition("::")[2]
    assert session.delivery == {name: name}
    assert record.metadata == {name: [name]}
    # Rows are UTF-8, which has no lone surrogates: there they are escapes (`view.storable`).
    assert record.tags == {
        storable(name): storable(name),
        storable(f"{name} later"): storable(name),
    }


def of_name(store: LogStore, name: str, state: str) -> TacticCallSession:
    found = store.list_sessions(tags={"k": name}, state=state)
    (summary,) = [one for one in found if one.tactic_name == storable(name)]
    return store.load_session(summary.session_id)


@NAMES
def test_agents_and_tools(opened: LogStore, name: str) -> None:
    """Agents, dialogs, models, tools and their arguments may be called anything."""
    session = of_name(opened, name, "success")
    ((agent, (call,)),) = session.agent_sessions.items()
    assert (agent, call.agent_name, call.delivery, session.delivery) == (name,) * 4
    assert [trace.asked for traces in call.invoke_traces.values() for trace in traces] == [name] * 2
    assert call.invoke_traces[2][0].model == name
    ((tool,),) = call.interrupts.values()
    assert (tool.name, tool.arguments, tool.state) == (name, {name: name}, "failure")


@NAMES
def test_errors(written: Written, opened: LogStore, name: str) -> None:
    """An exception's message is kept as it is, in a session and outside of one."""
    session = of_name(opened, name, "failure")
    assert session.error is not None
    assert session.error.message == name
    (event,) = opened.events(written.ids[name]["error"])
    assert json.loads(event.data)["error"]["message"] == name


@NAMES
def test_filters(written: Written, opened: LogStore, name: str) -> None:
    """A filter finds exactly the sessions that have what it names, whatever that is called."""
    plain = written.ids[name]["plain"]
    assert [one.session_id for one in opened.list_sessions(partition=name)] == [plain]
    assert [one.session_id for one in opened.list_sessions(tactic_path=f"p::{name}")] == [plain]
    assert plain in [one.session_id for one in opened.list_sessions(tags={name: name})]
    assert len(opened.list_sessions(tags={name: name})) == 3
    assert len(opened.list_sessions(tags={"k": name})) == 2
    assert opened.list_sessions(tags={f"{name}x": name}) == []
    assert opened.export_cost_summary(partition=name)["session_count"] == 1
    assert opened.export_cost_summary(tactic_path=f"p::{name}")["session_count"] == 1
    summary = opened.export_cost_summary(tags={"k": name}, group_by="agent")
    assert [group["key"] for group in summary["groups"]] == [storable(name)]
    for session_id in (name, f"error-{name}", ""):
        with pytest.raises(SessionNotFound):
            opened.load_session(session_id)
        with pytest.raises(SessionNotFound):
            opened.events(session_id)
        with pytest.raises(SessionNotFound):
            opened.tag(session_id, {"a": "b"})
    with pytest.raises(LllmError):
        opened.find_id(name)
    with suppress(ValueError):
        opened.list_sessions(cursor=f"1.{name}")


@NAMES
def test_cost_by_tag(opened: LogStore, name: str) -> None:
    """A sum by tag takes any name of a tag, and its groups are the values."""
    summary = opened.export_cost_summary(group_by=f"tag:{name}")
    assert {group["key"]: group["session_count"] for group in summary["groups"]} == {
        None: 3 * (len(NASTY) - 1),
        storable(name): 3,
    }


@NAMES
def test_exports(written: Written, opened: LogStore, name: str) -> None:
    """An export is UTF-8 and JSON, says what was written, and has as many lines as it has
    events."""
    session_id = written.ids[name]["plain"]
    text = opened.export_session(session_id)
    assert json.loads(text.encode())["task"] == name
    lines = opened.export_session(session_id, "jsonl").encode().split(b"\n")
    events = [json.loads(line) for line in lines[:-1]]
    assert lines[-1] == b""
    assert [one["type"] for one in events] == [
        "session.started", "session.succeeded", "session.tagged",
    ]  # fmt: skip
    assert events[0]["data"]["task"] == name


def test_following(opened: LogStore) -> None:
    """Whoever follows the log gets every event, its payload byte for byte."""
    followed = list(logs.follow(opened.log, after=0, stop=lambda: True))
    assert followed == list(opened.log.read())
    assert len(followed) > 10 * len(NASTY)


def test_nothing_became_a_statement(written: Written, opened: LogStore) -> None:
    """Tables, views and triggers are those of a store that nobody harmed, and the triggers hold."""
    expected = Written.schema(EmptyLike(written.path))  # type: ignore[arg-type] # has a path
    assert written.schema() == expected
    assert opened.rebuild(check=True).difference is None
    if written.path.is_file():
        connection = sqlite3.connect(written.path)
        for statement in ("DELETE FROM events", "UPDATE events SET type = 'x'"):
            with pytest.raises(sqlite3.IntegrityError, match="events are never"):
                connection.execute(statement)
        connection.close()


class EmptyLike:
    """The empty store beside another."""

    def __init__(self, path: Path) -> None:
        self.path = path.with_name(f"empty-{path.name}")


@pytest.mark.parametrize("key", ["name", "version", "under", "paths", "packages"])
@NAMES
def test_packages(tmp_path: Path, name: str, key: str) -> None:
    """An lllm.toml with such a name, folder or dependency is refused with PackageError, or it
    names what it says and nothing else."""
    quoted = json.dumps(name) if name.isprintable() else '"' + "".join(map(_toml, name)) + '"'
    where = {"under": f"x under {name}", "paths": name, "packages": f"{name} as y"}
    text = {
        "name": f"[package]\nname = {quoted}\n",
        "version": f'[package]\nname = "x"\nversion = {quoted}\n',
    }.get(key) or (
        '[package]\nname = "x"\n'
        + ("[dependencies]\npackages = [" if key == "packages" else "[tactics]\npaths = [")
        + '"' + "".join(map(_toml, where[key])) + '"]\n'
    )  # fmt: skip
    (tmp_path / "lllm.toml").write_bytes(text.encode("utf-8", "surrogatepass"))
    before = sorted(tmp_path.rglob("*"))
    with suppress(PackageError):
        manifest = read_manifest(tmp_path)
        assert re.fullmatch(r"[\w.-]+", manifest.name)
        assert manifest.version in ("", name)
    assert sorted(tmp_path.rglob("*")) == before


def _toml(character: str) -> str:
    code = ord(character)
    if character.isalnum() or character in " ./:;,-_%*?[](){}<>=$!#&+@^~|'`":
        return character
    return character if 0xD800 <= code <= 0xDFFF else f"\\U{code:08x}"


# -- the command line


class Run:
    """Runs a command in this process and looks at what it prints."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *arguments: object, codes: tuple[int, ...] = (0,)) -> str:
        self.capsys.readouterr()
        code = main([str(one) for one in arguments])
        out, err = self.capsys.readouterr()
        assert code in codes, err
        assert len(err.splitlines()) <= 1
        assert not HARMFUL.search(err)
        if not {"--json", "export"} & set(arguments):
            assert not HARMFUL.search(out)
        # JSON in a pipe is what it is, to the byte; JSON itself has no raw controls below a space.
        assert not re.search("[\x00-\x09\x0b-\x1f\ud800-\udfff]", out)
        return out


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """A runner of commands."""
    return Run(capsys)


@ONE_BACKEND
def test_lists(written: Written, run: Run) -> None:
    """A list shows one line a session, with every text visibly escaped; --json has them whole."""
    out = run("ls", "--limit", 0, "--store", written.path)
    assert len(out.splitlines()) == len(written.all_ids) + 1
    for name in NASTY.values():
        assert visible(storable(name)) in out
    found = json.loads(run("ls", "--json", "--limit", 0, "--store", written.path))
    assert {one["partition"] for one in found} == {"", *map(storable, NASTY.values())}


@ONE_BACKEND
@NAMES
def test_one_session(written: Written, run: Run, name: str) -> None:
    """`show` and `events` show each text escaped and whole; --json and `export` give it back."""
    session_id = written.ids[name]["plain"]
    at = ("--store", written.path)
    shown = run("show", session_id, *at)
    assert f"task {visible(name)}\n" in shown
    assert f"p::{visible(name)}" in shown
    run("events", session_id, *at)
    run("events", written.ids[name]["error"], *at)
    with open_store(str(written.path)) as store:
        failed = of_name(store, name, "failure").session_id
    for line in visible_lines_of(name):
        assert line in run("show", failed, *at)
    run("events", failed, *at)
    assert json.loads(run("show", session_id, "--json", *at))["task"] == name
    assert json.loads(run("export", session_id, *at))["task"] == name
    lines = run("events", session_id, "--json", *at).split("\n")
    assert json.loads(lines[0])["data"]["task"] == name


def visible_lines_of(name: str) -> list[str]:
    """A message as the traceback below a failed session shows it."""
    return [visible(line) for line in f"RuntimeError: {name}".split("\n")]


@ONE_BACKEND
@NAMES
def test_arguments(written: Written, run: Run, name: str) -> None:
    """Ids, tags, partitions, tactics, cursors and dates from the command line may be anything: the
    answer is an answer, or one line."""
    at = ("--store", written.path)
    plain = written.ids[name]["plain"]
    for option, value in (
        ("--tag", f"k={name}"),
        ("--partition", name),
        ("--tactic", f"p::{name}"),
    ):
        found = json.loads(run("ls", f"{option}={value}", "--json", *at))
        assert found
        assert option == "--tag" or [one["session_id"] for one in found] == [plain]
        run("ls", f"{option}={value}", *at)
        run("cost", f"{option}={value}", *at)
    run("ls", f"--cursor=1.{name}", *at, codes=(0, 1, 2))
    for option in ("--state", "--after", "--before", "--limit", "--cursor", f"--{name}"):
        run("ls", f"{option}={name}", *at, codes=(2,))
    run("cost", f"--by=tag:{name}", *at)
    run("cost", f"--by=tag:{name}", "--json", *at)
    run("cost", f"--by={name}", *at, codes=(2,))
    for command in ("show", "events", "export", "tag"):
        values = ["x=y"] if command == "tag" else []
        for wrong in (name, f"error-{name}"):
            run(command, *at, "--", wrong, *values, codes=(1, 2))
    run("tail", f"--session={name}", *at, codes=(1, 2))
    run("--", name, codes=(2,))


@ONE_BACKEND
@NAMES
def test_tagging(written: Written, run: Run, name: str) -> None:
    """`tag` takes any name and value, and says what the tags are now."""
    at = ("--store", written.path)
    plain, key = written.ids[name]["plain"], name.replace("=", "")
    out = run("tag", *at, "--", plain, f"{key}!={name}")
    assert f"{visible(storable(key))}!={visible(storable(name))}" in out
    out = run("tag", *at, f"--remove={key}!", "--", plain)
    assert f"{visible(storable(key))}!=" not in out


@ONE_BACKEND
@NAMES
def test_no_store_there(written: Written, run: Run, name: str) -> None:
    """A path that names no store is refused, and nothing is made by asking for it."""
    before = sorted(written.path.parent.iterdir())
    run("ls", f"--store={name}", codes=(2,))
    run("tag", f"--store={name}", "x", "a=b", codes=(2,))
    assert sorted(written.path.parent.iterdir()) == before


@ONE_BACKEND
def test_arguments_that_are_no_text(written: Written) -> None:
    """Arguments whose bytes are no UTF-8 are answered in one line, by the real command."""
    raw = b"\xff\xfe\x9b31m\xc3"
    for arguments in (
        [b"ls", b"--partition=" + raw],
        [b"cost", b"--by=tag:" + raw],
        [b"show", raw],
        [b"ls", b"--store=" + raw],
    ):
        done = subprocess.run(
            [sys.executable, "-c", "import sys; from lllm.cli import main; sys.exit(main())",
             *arguments],
            capture_output=True, check=False, env=os.environ | {"LLLM_STORE": str(written.path)},
        )  # fmt: skip
        assert done.returncode in (0, 1, 2)
        assert len(done.stderr.splitlines()) <= 1, done.stderr
        assert not re.search(rb"[\x00-\x09\x0b-\x1f\x7f-\x9f\xff]", done.stderr + done.stdout)


IN_CHILD = """
import json, sys, time
from lllm.cli import main
from lllm.events import follow
def wait(_): raise KeyboardInterrupt
follow.time.sleep = wait  # `tail` ends where it would wait
for arguments in json.loads(sys.argv[1]):
    main(arguments)
"""


def on_terminal(commands: list[list[str]], columns: int, **environment: str) -> str:
    """What commands show on a terminal of this width."""
    import fcntl
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    kept = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS", "FORCE_COLOR")}
    child = subprocess.Popen(
        [sys.executable, "-c", IN_CHILD, json.dumps(commands)],
        stdin=theirs, stdout=theirs, stderr=theirs, env=kept | {"TERM": "xterm"} | environment,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # how Linux says that the other end is closed
        while data := os.read(ours, 1 << 16):
            shown += data
    os.close(ours)
    assert child.wait() == 0, shown
    return shown.decode().replace("\r\n", "\n")


def all_commands(written: Written) -> list[list[str]]:
    """Every command that shows something, with hostile values where it takes some."""
    at = ["--store", str(written.path)]
    commands = [
        ["ls", "--limit", "0", *at],
        ["ls", "--limit", "0", "--json", *at],
        ["tail", "-n", "1000", *at],
        ["tail", "-n", "1000", "--json", *at],
        ["cost", "--by", "agent", *at],
        ["cost", "--by", "tag:k", *at],
        ["cost", "--by", "tag:k", "--json", *at],
    ]
    for name, ids in written.ids.items():
        commands += [
            ["show", ids["plain"], *at],
            ["show", ids["plain"], "--json", *at],
            ["export", ids["plain"], *at],
            ["events", ids["plain"], *at],
            ["events", ids["error"], "--json", *at],
            ["cost", f"--by=tag:{name.replace(chr(0), '')}", *at],
            ["ls", f"--{name}", *at],
        ]
    return commands


@ONE_BACKEND
def test_on_a_terminal(written: Written) -> None:
    """On a terminal of any width nothing but lllm's own styles is more than text, in JSON too."""
    for columns in (60, 220):
        out = on_terminal(all_commands(written), columns)
        assert STYLE.search(out)
        assert HARMFUL.findall(STYLE.sub("", out)) == []


@ONE_BACKEND
@pytest.mark.parametrize("variable", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_on_a_plain_terminal(written: Written, variable: dict[str, str]) -> None:
    """With NO_COLOR, or on a terminal that knows no styles, there is nothing but text."""
    assert HARMFUL.findall(on_terminal(all_commands(written), 100, **variable)) == []


@ONE_BACKEND
def test_html_stays_text(written: Written, run: Run) -> None:
    """HTML is shown as it was said; nothing makes entities of it that a reader had to undo."""
    name = NASTY["HTML"]
    out = run("show", written.ids[name]["plain"], "--store", written.path)
    assert name in out
    assert html.escape(name) not in out


# -- very long texts


@pytest.fixture(params=["runs.db", "runs"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where a store of a test's own is to be."""
    name: str = request.param
    return tmp_path / name


def test_ten_megabytes(path: Path, run: Run) -> None:
    """10 MB of text, wherever a user or a model may put them, are stored, found, exported and
    shown."""
    huge = "0123456789" * 1_000_000
    with LogStore.open(str(path), partition="") as store:
        with store.session("s", task=huge, tags={"k": huge}, partition=huge) as one:
            one.deliver(huge)
        assert [found.session_id for found in store.list_sessions(tags={"k": huge})] == [
            one.session_id
        ]
        assert store.load_session(one.session_id).delivery == huge
        assert json.loads(store.export_session(one.session_id))["task"] == huge
    if path.suffix:
        return  # the command line does not know which backend it shows
    at = ("--store", path)
    assert f"{huge[:240]}… (+9,999,760 characters)" in run("show", one.session_id, *at)
    assert len(run("events", one.session_id, *at)) < 1_000
    listed = run("ls", *at)
    assert f"k={huge}\n" in listed
    assert one.session_id in listed
    assert f"{huge[:1_000]}… (+9,999,000 characters)" in run("cost", "--by", "tag:k", *at)


@pytest.mark.parametrize("length", [80, 100, 101, 239, 240, 260, 261, 5_000])
def test_what_is_cut_is_marked(path: Path, run: Run, length: int) -> None:
    """`show` shows a text whole, or how many characters are left out; --json has them all."""
    texts = {letter: letter * length for letter in "TDMAREY"}
    invoker = ScriptedInvoker([tool_call("none", {"x": texts["A"]}), reply(texts["R"])])
    agent = {"name": "a", "model_name": "m", "invoker": invoker}

    class Long(Tactic, register=False):
        name = "long"
        agent_group = ("a",)

        def call(self, task: object, **_: object) -> object:
            self.agents["a"].open()
            self.agents["a"].receive(task)
            self.agents["a"].respond()
            return texts["D"]

    with LogStore.open(str(path), partition="") as store:
        Long({"agent_configs": [agent]}, log_store=store)(texts["T"], metadata=texts["M"])
        with suppress(RuntimeError), store.session("s", tags={"k": texts["Y"]}):
            raise RuntimeError(texts["E"])
        failed, made = store.list_sessions()
    out = run("show", made.session_id, "--store", path)
    out += run("show", failed.session_id, "--store", path)
    whole = run("show", made.session_id, "--json", "--store", path)
    whole += run("show", failed.session_id, "--json", "--store", path)
    for letter, text in texts.items():
        assert text in whole
        assert_marked(out, letter, length)
    assert texts["Y"] in out  # tags are never cut
    assert texts["E"] in out  # nor is a traceback


def assert_marked(out: str, letter: str, length: int) -> None:
    """Every run of a letter is as long as the text, or says by how much it is shorter."""
    runs = list(re.finditer(rf"{letter}{{20,}}(… \(\+([\d,]+) characters\))?", out))
    assert runs
    for match in runs:
        missing = int(match[2].replace(",", "")) if match[2] else 0
        of_json = 2 if missing and letter == "A" else 0  # what stands behind it, `"}`
        assert match[0].count(letter) + missing == length + of_json


def test_what_is_too_deep_is_marked(tmp_path: Path, run: Run) -> None:
    """Where a tree has no room for the levels below, `show` says what is left out, and how to see
    it; with its command, every session can be reached."""
    depth, path = 30, tmp_path / "runs.db"
    with LogStore.open(str(path), partition="") as store, ExitStack() as stack:
        ids = [
            stack.enter_context(store.session(f"level{number}")).session_id
            for number in range(depth)
        ]
    seen: set[str] = set()
    asked = ids[0]
    while True:
        out = on_terminal([["show", asked, "--store", str(path)]], 80)
        plain = " ".join(re.sub("[│├└─]", " ", STYLE.sub("", out)).split())
        seen |= {one for one in ids if one in plain}
        left = re.search(r"… what is in it, and \d+ sessions? below it: lllm show (\w+)", plain)
        if left is None:
            break
        asked = left[1]
    assert seen == set(ids)
    piped = run("show", ids[0], "--store", path)
    assert [one in piped for one in ids] == [True] * depth
