"""The README and the guides in `docs/`: what they show runs as it stands there, their links lead
somewhere, and everything that a user can name stands in one of them."""

from __future__ import annotations

import doctest
import importlib
import json
import multiprocessing
import os
import re
import runpy
import shlex
import signal
import sqlite3
import subprocess
import sys
import warnings
from contextlib import closing
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from lllm import LogStore, SQLiteBackend
from lllm.agents.config import AgentConfig
from lllm.cli import cli
from lllm.events import model
from lllm.events.model import EVENTS
from tests.support import ROOT, loopback_messages, loopback_responses, run_guide
from tests.support.loopback import JSON, Loopback, Received, Reply, text, tool_calls

GUIDES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EACH_GUIDE = pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)

SAID = "Berlin has 3.7 million people."
ARGUMENTS = {"city": "Berlin"}  # of the tools that the guides have


def snippets(guide: Path, language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", guide.read_text(), re.MULTILINE | re.DOTALL)


def answer(received: Received) -> Reply:
    """What a model says, in the dialect that it is asked in: a call of the first tool that it is
    offered, and a sentence once a tool was called."""
    body = received.body
    if received.path.endswith("/responses"):
        return loopback_responses.sent(loopback_responses.response(loopback_responses.says(SAID)))
    tool = _tool(body)
    if body.get("stream") or tool is None:
        return run_guide.answer(received) if body.get("stream") else text(SAID)
    return tool_calls((tool, json.dumps(ARGUMENTS)))


def _tool(body: JSON) -> str | None:
    """The name of the tool to call, None where there is none, or one was called already."""
    names = [one["function"]["name"] for one in body.get("tools") or []]
    called = any(one.get("role") == "tool" for one in body["messages"])
    return names[0] if names and not called else None


# Programs run in processes of their own, forked from one that has imported what takes long.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["openai", "lllm.store", "lllm.tactic"])


def run_program(script: Path, environment: dict[str, str]) -> None:
    """Run a program in its folder, in this process; what it prints goes into a file there."""
    os.chdir(script.parent)
    os.environ.update(environment)
    said = os.open("said", os.O_WRONLY | os.O_CREAT, 0o600)
    os.dup2(said, 1)
    os.dup2(said, 2)
    warnings.simplefilter("error")
    runpy.run_path(str(script), run_name="__main__")


def project(folder: Path) -> None:
    """The package that the guides' lllm.toml is of, with one tactic in it."""
    [manifest] = snippets(ROOT / "docs" / "tactics.md", "toml")
    mine = folder / "my_project"
    (mine / "tactics").mkdir(parents=True)
    (mine / "more").mkdir()
    (folder / "shared_pkg").mkdir()
    (folder / "shared_pkg" / "lllm.toml").write_text('[package]\nname = "shared_pkg"\n')
    (mine / "lllm.toml").write_text(manifest)
    (mine / "tactics" / "one.py").write_text(
        "from lllm import Tactic\nclass One(Tactic):\n"
        "    name = 'one'\n    def call(self, task):\n        return task\n"
    )


@EACH_GUIDE
def test_the_python_of_a_guide_runs(guide: Path, tmp_path: Path) -> None:
    """Its snippets are one program, which runs as it stands against a server that answers as the
    provider does; no key is in what it stores."""
    found = snippets(guide, "python")
    if not found:
        return
    script = tmp_path / "guide.py"
    script.write_text("\n".join(found))
    project(tmp_path)
    with Loopback() as server, Loopback() as claude:
        server.answers(answer)
        claude.answers(loopback_messages.replies(loopback_messages.says(SAID)))
        told = {
            "OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": run_guide.KEY,
            "ANTHROPIC_BASE_URL": loopback_messages.base_url(claude),
            "ANTHROPIC_API_KEY": run_guide.KEY,
        }  # fmt: skip
        process = PROCESSES.Process(target=run_program, args=(script, told))
        process.start()
        process.join(60)
    said = (tmp_path / "said").read_text()
    assert process.exitcode == 0, said
    for file in tmp_path.glob("*.db"):
        assert run_guide.KEY.encode() not in file.read_bytes()


# -- the command line


def guides_with(language: str) -> list[Path]:
    """The guides that have snippets of a language."""
    return [guide for guide in GUIDES if snippets(guide, language)]


def commands(guide: Path) -> list[tuple[str, str]]:
    """The commands of a guide, in order, and what it says that each prints."""
    console = "".join(snippets(guide, "console"))
    found = re.findall(r"^\$ (.+)\n((?:(?!\$ ).*\n)*)", console, re.MULTILINE)
    return [(command, printed) for command, printed in found]


def alike(printed: str) -> str:
    """A text without what differs from run to run: times, ids, and how wide columns are."""
    printed = re.sub(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\.\d+)?Z?", "(when)", printed)
    printed = re.sub(r"\d\d:\d\d:\d\d\.\d+Z?", "(when)", printed)
    printed = re.sub(r"\b[\d.,]+ (ms|s|µs)(?=\s|$)", "(time)", printed)
    printed = re.sub(r"\b\d{19}\b", "(nanoseconds)", printed)
    printed = re.sub(r"\b01[0-9a-z]{10}([0-9a-z]{14})?\b", "(id)", printed)
    return re.sub(" +", " ", printed)


class Console:
    """A folder in which the commands of a guide run one after the other. A guide shows the ids that
    its sessions had; the session in the same place of the list is meant."""

    def __init__(self, folder: Path, ids: list[str]) -> None:
        self._folder = folder
        self._told = ids
        self._ids: dict[str, str] = {}

    def run(self, command: str) -> str:
        """What a command prints."""
        for told, real in self._ids.items():
            command = command.replace(told, real)
        argv = shlex.split(command)
        if argv[0] == "export":
            name, _, value = argv[1].partition("=")
            os.environ[name] = value
            return ""
        if argv[:2] in (["lllm", "tail"], ["lllm", "web"]):
            return self._tail(argv[1:])
        if argv[0] != "lllm" or "|" in argv:
            done = subprocess.run(
                command, shell=True, cwd=self._folder, check=True, capture_output=True, text=True
            )
            return done.stdout
        result = CliRunner().invoke(cli, argv[1:], prog_name="lllm")
        assert result.exit_code == 0, result.output
        if argv[1] == "demo":
            store = re.search(r"Everything goes to (.+)\.", result.output)
            assert store is not None
            with LogStore(SQLiteBackend(store[1])) as opened:
                real = [one.session_id for one in opened.list_sessions()]
            self._ids = dict(zip(self._told, real, strict=False))
        return result.output

    def _tail(self, arguments: list[str]) -> str:
        """The first lines of a command that goes on until Ctrl-C; then that ends it."""
        with subprocess.Popen(
            [Path(sys.executable).with_name("lllm"), *arguments],
            cwd=self._folder, stdout=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(2)]
            process.send_signal(signal.SIGINT)
            process.wait(30)
        return "".join(lines)


@pytest.mark.money
@pytest.mark.parametrize("guide", guides_with("console"), ids=lambda guide: guide.stem)
def test_the_commands_of_a_guide(
    guide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They run one after the other in one folder, and print what stands below them; `...` there
    stands for anything."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLLM_STORE", "")
    for prices in snippets(guide, "toml"):
        (tmp_path / "prices.toml").write_text(prices)
    listed = next((printed for command, printed in commands(guide) if "lllm ls" in command), "")
    console = Console(tmp_path, re.findall(r"^[0-9a-z]{26}\b", listed, re.MULTILINE))
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    for command, expected in commands(guide):
        printed = console.run(command)
        same = doctest.OutputChecker().check_output(alike(expected), alike(printed), flags)
        assert same, f"$ {command}\n{alike(printed)}\nbut the guide has\n{alike(expected)}"


@pytest.mark.slow
def test_the_backend_of_the_guide_keeps_the_contract(tmp_path: Path) -> None:
    """The file that the guide to backends has, run by pytest as it says."""
    file = tmp_path / "list_log.py"
    file.write_text("\n".join(snippets(ROOT / "docs" / "backends.md", "python")))
    assert "`pytest list_log.py`" in (ROOT / "docs" / "backends.md").read_text()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", file.name]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert re.search(r"^3\d passed", done.stdout, re.MULTILINE)


def anchors(guide: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    prose = re.sub(r"^```.*?^```$", "", guide.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(
    "guide", [*GUIDES, *sorted((ROOT / "docs" / "frameworks").glob("*.md"))],
    ids=lambda guide: str(guide.relative_to(ROOT)),
)  # fmt: skip
def test_the_links_of_a_page(guide: Path) -> None:
    """Each leads to a file that is there, and to a heading that it has."""
    for link in re.findall(r"\]\(([^)\s]+)\)", guide.read_text()):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = guide.parent / path if path else guide
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_the_names_that_a_page_mentions_exist() -> None:
    """What a page calls by a dotted name is there."""
    prose = "\n".join(guide.read_text() for guide in GUIDES)
    otel = "\n".join(path.read_text() for path in (ROOT / "lllm" / "otel").glob("*.py"))
    for name in set(re.findall(r"`(lllm(?:\.\w+)+)`", prose)) - LOGGERS:
        if f'"{name}"' in otel or name.removeprefix("lllm.") in EVENTS:
            continue  # an attribute, or the name of a log record
        module, _, attribute = name.rpartition(".")
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            assert hasattr(importlib.import_module(module), attribute), name


LOGGERS = {"lllm.tactic", "lllm.agent", "lllm.invoker", "lllm.store", "lllm.toml"}


# -- what stands in a guide, and what is there


def section(guide: Path, heading: str) -> str:
    """The text below a heading, up to the next one of its rank or above."""
    found = re.search(
        rf"^(#+) {re.escape(heading)}\n(.*?)(?=^#{{1,3}} |\Z)",
        guide.read_text(),
        re.MULTILINE | re.DOTALL,
    )
    assert found is not None, f"{guide.name} has no heading {heading!r}"
    return found[2]


def marked(text: str) -> set[str]:
    """What stands between backticks."""
    return set(re.findall(r"`([^`\n]+)`", text))


CLI = ROOT / "docs" / "cli.md"
SHARED = ("--store", "--utc", "--tz", "--help", "-h", "--version")
FILTERS = ("--tag", "--state", "--tactic", "--after", "--before", "--partition")
CONDITIONS = (
    "--model", "--agent", "--error", "--text", "--min-cost", "--max-cost", "--slower", "--faster",
    "--wasted",    "--annotation",
)  # fmt: skip


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_the_options_of_a_command(name: str) -> None:
    """Each command has a section with all of its options, and none that it does not have."""
    text = section(CLI, f"lllm {name}")
    command = cli.commands[name]
    inner = command.commands.values() if isinstance(command, click.Group) else ()
    options = {
        option
        for one in (command, *inner)
        for parameter in one.params
        if isinstance(parameter, click.Option)
        for option in parameter.opts
    }
    own = options - {*SHARED}
    if own >= {*FILTERS}:
        assert "filters" in text
        own -= {*FILTERS}
        if own >= {*CONDITIONS}:
            assert "all filters" in text
            own -= {*CONDITIONS}
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    said = {one.split()[0] for one in marked(prose) if one.startswith("-")}
    assert own <= said <= options
    assert (f"$ lllm {name}") in CLI.read_text()


def test_the_options_that_commands_share() -> None:
    """The first part of the guide has them."""
    text = CLI.read_text().partition("## lllm demo")[0]
    assert all(option in text for option in (*SHARED[:4], *FILTERS, *CONDITIONS))


STORE = ROOT / "docs" / "store.md"
SUMS = {*marked(section(STORE, "Sums"))}


@pytest.mark.parametrize("name", sorted(EVENTS))
def test_the_fields_of_an_event(name: str) -> None:
    """The guide to the store names each of them, and no other."""
    fields = section(STORE, name).rpartition("Fields: ")[2]
    assert re.findall(r"`(\w+)`", fields) == list(EVENTS[name].__struct_fields__)


def test_the_values_inside_of_events() -> None:
    """The guide names the fields of each."""
    text = section(STORE, "Values inside events")
    rows = re.findall(r"^\| (\w+) \| .* \| (`.*`) \|$", text, re.MULTILINE)
    assert len(rows) == 12
    for name, fields in rows:
        assert re.findall(r"`(\w+)`", fields) == list(getattr(model, name).__struct_fields__)


def test_the_tables_of_a_store(tmp_path: Path) -> None:
    """The guide names each table with all of its columns, and no other."""
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store:
        store.list_sessions()
    with closing(sqlite3.connect(tmp_path / "runs.db")) as connection:
        found = connection.execute("SELECT name, type FROM sqlite_master").fetchall()
        views = {name for name, kind in found if kind == "view"}
        readable = {name for name in views if name.startswith("readable_")}
        names = views - readable | {"events", "checkpoints"}
        others = {name for name, kind in found if kind == "table"} - names
        columns = {
            name: {row[1] for row in connection.execute(f"PRAGMA table_info({name})")}
            for name in names
        }
    assert all(re.fullmatch(r".+_v\d+(_search\w*)?|sqlite_sequence", name) for name in others)
    text = STORE.read_text().partition("## Tables")[2].partition("## Stability")[0]
    headings = re.findall(r"^### (\w+)$", text, re.MULTILINE)
    assert {*headings} - {"Sums", "Datasette"} == names
    listed = re.findall(r"^\| `(readable_\w+)` \|", section(STORE, "Datasette"), re.MULTILINE)
    assert sorted(listed) == sorted(readable)
    for name in names:
        said = re.search(rf"^### {name}\n.*?^Columns: (.*?)\n\n", text, re.MULTILINE | re.DOTALL)
        assert said is not None
        assert marked(said[1]) | (SUMS if "#sums" in said[1] else set()) == columns[name], name


@pytest.mark.parametrize(
    "module",
    [
        "lllm", "lllm.logging", "lllm.testing", "lllm.invokers", "lllm.invokers.scripted",
        "lllm.events.log", "lllm.projections.view",
    ],
)  # fmt: skip
def test_a_public_name_is_in_a_guide(module: str) -> None:
    """Whatever a public module exports is named, in prose or in a program."""
    prose = "\n".join(guide.read_text() for guide in GUIDES)
    words = {*re.findall(r"\w+", "\n".join(re.findall(r"`[^`\n]+`|^```.*?^```$", prose, DOTALL)))}
    exported = {*importlib.import_module(module).__all__} - {"__version__"}
    assert not exported - words


DOTALL = re.MULTILINE | re.DOTALL


def test_the_keys_of_an_agent() -> None:
    """The guide to tactics has a row for each."""
    rows = re.findall(
        r"^\| `(\w+)` ", section(ROOT / "docs" / "tactics.md", "Keys of an agent"), re.MULTILINE
    )
    assert {*rows} == {*AgentConfig.__struct_fields__}


def test_the_figures_of_the_readme() -> None:
    """What the README says of speed and loss is what was measured last, and so is the day."""
    results = (ROOT / "benchmarks" / "RESULTS.md").read_text()
    day = re.search(r"^(\S+), `python -m benchmarks`", results, re.MULTILINE)
    dropped = re.search(r"^\| spans dropped of 500 sessions[^|]*\| (\S+) \|", results, re.MULTILINE)
    durable = re.search(
        r"^\| a session, SQLite / mlflow .* lllm (.+); mlflow \S+ (\S+ ms)", results, re.MULTILINE
    )
    assert day is not None
    assert dropped is not None
    assert durable is not None
    text = section(ROOT / "README.md", "Why not a tracing service")
    figures = re.findall(r"\d{4}-\d\d-\d\d|\d+(?:\.\d+)? (?:%|ms)", text)
    assert figures == [day[1], f"{dropped[1]} %", durable[1], durable[2]]


def test_the_commands_of_the_readme() -> None:
    """The first makes the demo, the second runs the tests, and is found there by `.ci/run`."""
    first, second = "".join(snippets(ROOT / "README.md", "sh")).splitlines()
    assert first.endswith("&& .venv/bin/lllm demo")
    assert re.match(r"python3 -m venv .*pytest", second)


def test_the_contents_of_the_guides() -> None:
    """Each guide is in the table of contents, and in the README."""
    for guide in GUIDES[1:]:
        if guide.name != "README.md":
            assert f"]({guide.name})" in (ROOT / "docs" / "README.md").read_text()
            assert f"](docs/{guide.name})" in (ROOT / "README.md").read_text()


def whole(picture: Path, said: str) -> None:
    """Check that a picture shows a text, and loads nothing from elsewhere."""
    drawn = picture.read_text()
    assert said in drawn
    assert not re.search(r"url\([^#]|href", drawn)


PICTURES = {"show": "answer_ticket", "cost": "alice"}


def test_the_pictures_of_the_readme() -> None:
    """It shows both, and they load nothing from elsewhere."""
    for name, said in PICTURES.items():
        assert f"](docs/{name}.svg)" in (ROOT / "README.md").read_text()
        whole(ROOT / "docs" / f"{name}.svg", said)


@pytest.mark.slow
def test_the_pictures_can_be_made_again(tmp_path: Path) -> None:
    """The script draws them in its own folder, from a demo of its own."""
    script = tmp_path / "pictures.py"
    script.write_text((ROOT / "docs" / "pictures.py").read_text())
    subprocess.run([sys.executable, script], check=True, timeout=60)
    for name, said in PICTURES.items():
        whole(tmp_path / f"{name}.svg", said)
