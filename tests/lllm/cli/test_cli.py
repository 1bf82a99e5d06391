"""The command line, on real stores of both kinds."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from lllm import LogStore, Tactic
from lllm.cli import main
from lllm.cli.open_store import open_store
from lllm.cli.render.price_breakdown import price_breakdown
from lllm.events.exported_lines import as_jsonl
from lllm.events.model import Price, Usage
from lllm.invokers.scripted import ScriptedInvoker, reply
from lllm.pricing.price import price as price_of
from lllm.projections.session.call_session import InvokeTrace
from lllm.projections.session.invoke_cost import InvokeCost

COMMANDS = (
    "demo", "ls", "show", "search", "calls", "events", "play", "diff", "replay", "tail", "cost",
    "query", "export", "import", "tag", "annotate", "rebuild", "verify", "repair", "seal",
    "keygen", "prove", "audit", "doctor", "backup", "web", "mcp", "otel", "erase", "hold",
    "release", "retain", "archive", "vacuum", "schema",
)  # fmt: skip


class Asks(Tactic, register=False):
    """One agent, one answer."""

    name = "asks"
    agent_group = ("a",)

    def call(self, task: object, **_: object) -> object:
        agent = self.agents["a"]
        agent.open()
        agent.receive(str(task))
        return agent.respond().content


def ask(store: LogStore, task: str, answer: object = "Well.", **tags: str) -> None:
    invoker = ScriptedInvoker([answer])  # type: ignore[list-item] # each test gives a reply
    agent = {"name": "a", "model_name": "gpt-4o-mini", "invoker": invoker}
    Asks({"agent_configs": [agent]}, log_store=store)(task, tags=tags)


@pytest.fixture(scope="module", params=["runs.db", "runs"])
def demo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that the demo wrote: an SQLite file and a folder of JSONL files."""
    name: str = request.param
    path = tmp_path_factory.mktemp("demo") / name
    assert main(["demo", "--store", str(path)]) == 0
    return path


@pytest.fixture(params=["runs.db", "runs"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where a store of a test's own is to be."""
    name: str = request.param
    return tmp_path / name


@pytest.fixture
def fresh(path: Path) -> Iterator[LogStore]:
    """That store."""
    with LogStore.open(str(path), partition="") as store:
        yield store


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(capsys)


class Run:
    """Runs a command in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys
        self.err = ""
        self.code = 0

    def __call__(self, *arguments: object, code: int = 0) -> str:
        self.capsys.readouterr()
        self.code = main([str(one) for one in arguments])
        out, self.err = self.capsys.readouterr()
        assert self.code == code, self.err
        return out


def ids(path: Path, **filters: str) -> list[str]:
    with open_store(str(path)) as store:
        return [one.session_id for one in store.list_sessions(**filters)]  # type: ignore[arg-type] # one str filter at a time


def in_child(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    """The real command, in a process of its own, with pipes for its output."""
    return subprocess.Popen(
        [sys.executable, "-c", "import sys; from lllm.cli import main; sys.exit(main())",
         *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8",
        env=os.environ | environment,
    )  # fmt: skip


def on_terminal(columns: int, *arguments: object, **environment: str) -> str:
    """What the real command shows on a terminal of this width."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    kept = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS", "FORCE_COLOR")}
    child = subprocess.Popen(
        [sys.executable, "-c", "import sys; from lllm.cli import main; sys.exit(main())",
         *map(str, arguments)],
        stdin=theirs, stdout=theirs, stderr=theirs, env=kept | {"TERM": "xterm"} | environment,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    while True:
        try:
            data = os.read(ours, 1 << 16)
        except OSError:  # how Linux says that the other end is closed
            break
        if not data:
            break
        shown += data
    os.close(ours)
    assert child.wait() == 0, shown
    return shown.decode().replace("\r\n", "\n")


# -- help and options


def test_help_names_every_command(run: Run) -> None:
    """`lllm --help`, and `lllm` alone, list every command in its order with a whole sentence."""
    out = run("--help")
    listed = re.findall(r"^  (\w+)  +([A-Z].*)$", out.partition("Commands:")[2], re.M)
    assert [name for name, _ in listed] == list(COMMANDS)
    assert all(says.endswith(".") and not says.endswith("...") for _, says in listed)
    assert run() == out


def imported(*arguments: object) -> set[str]:
    """The packages that a command has imported when it is done."""
    source = (
        "import sys; from lllm.cli import main; main(sys.argv[1:]); "
        "print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    command = [sys.executable, "-c", source, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_help_is_light() -> None:
    """Help imports neither rich nor what the store needs."""
    assert not {"rich", "asyncio"} & imported("--help")


def test_list_is_light(demo: Path) -> None:
    """A list imports no SDK, no prices, no structlog."""
    heavy = {"openai", "genai_prices", "structlog", "sqlite_utils", "pydantic"}
    assert not heavy & imported("ls", "--store", demo)


def test_store_is_named_in_three_ways(
    demo: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store is --store behind the command, or before it, or LLLM_STORE, in this order."""
    monkeypatch.setenv("LLLM_STORE", str(demo))
    listed = run("ls")
    assert run("ls", "--store", demo) == run("--store", demo, "ls") == listed
    monkeypatch.setenv("LLLM_STORE", "/nowhere")
    assert run("--store", "/nowhere", "ls", "--store", demo) == listed


# -- ls


def test_list_shows_whole_ids(demo: Path, run: Run) -> None:
    """A list shows the newest first, with whole ids, states in words, and tags."""
    lines = run("ls", "--utc", "--store", demo).splitlines()
    assert lines[0].split() == [
        "ID", "STATE", "TACTIC", "STARTED", "(UTC)", "TOOK", "CALLS", "TOKENS", "COST", "TAGS",
        "TASK", "ERROR",
    ]  # fmt: skip
    assert [line.split()[0] for line in lines[1:]] == ids(demo)
    assert "✗ failure  answer_ticket" in lines[1]
    assert "channel=mail customer=carol" in lines[1]
    assert lines[1].endswith("LookupError: There is no order 'Z-99'.")
    assert '{"order":"A-18","text":"Does the teapot' in lines[2]


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (["--tag", "customer=alice"], 2),
        (["--tag", "customer=alice", "--tag", "channel=chat"], 1),
        (["--state", "failure"], 1),
        (["--tactic", "proofread"], 3),
        (["--tactic", "proofread", "--tag", "customer=bob"], 1),
        (["--partition", "demo"], 4),
        (["--after", "2020-01-01"], 4),
        (["--before", "2100-01-01T00:00+02:00", "--limit", "3"], 3),
        (["--limit", "0"], 4),
    ],
)
def test_list_filters(demo: Path, run: Run, options: list[str], count: int) -> None:
    """Every filter of list_sessions is an option, and they may be combined."""
    assert len(json.loads(run("ls", "--json", "--store", demo, *options))) == count


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (["--model", "gpt-4o*"], 4),
        (["--agent", "writer"], 3),
        (["--agent", "writer", "--model", "o1"], 0),
        (["--error", "429"], 1),
        (["--text", "teapot"], 1),
        (["--min-cost", "0.0001"], 2),
        (["--max-cost", "0.0001", "--tag", "channel=mail"], 1),
        (["--max-cost", "0"], 0),
        (["--slower", "1h"], 0),
        (["--faster", "1h", "--state", "success"], 3),
        (["--annotation", "correct"], 0),
        (["--wasted"], 1),
    ],
)
def test_lists_sums_and_data_sets_select_alike(
    demo: Path, run: Run, options: list[str], count: int
) -> None:
    """`ls`, `cost` and `export --dataset` take the same filters, and name what they found alike."""
    code = 0 if count else 1
    listed = json.loads(run("ls", "--json", "--store", demo, *options, code=code))
    told = [run.err]
    sums = json.loads(run("cost", "--json", "--store", demo, *options, code=code))
    told.append(run.err)
    text = run("export", "--dataset", "--store", demo, *options, code=code)
    told.append(run.err)
    rows = [json.loads(line)["session_id"] for line in text.splitlines()]
    assert (len(listed), sums["session_count"]) == (count, count)
    assert rows == [one["session_id"] for one in listed]
    assert told == ["lllm: No session fits.\n" if not count else ""] * 3


def test_list_pages(demo: Path, run: Run) -> None:
    """A list that is cut says how to go on, on stderr, and so each session is seen once."""
    seen: list[str] = []
    options: list[str] = []
    while True:
        found = json.loads(run("ls", "--json", "--limit", 3, "--store", demo, *options))
        seen += [one["session_id"] for one in found]
        run("ls", "--limit", 3, "--store", demo, *options)
        if "--cursor" not in run.err:
            break
        options = ["--cursor", run.err.split()[-1]]
    assert seen == ids(demo)


def test_list_by_cost(demo: Path, run: Run) -> None:
    """--sort cost lists the most expensive first, page by page."""
    whole = json.loads(run("ls", "--sort", "cost", "--json", "--store", demo))
    costs = [one["total_cost"] for one in whole]
    assert costs == sorted(costs, reverse=True)
    first = run("ls", "--sort", "cost", "--limit", 3, "--store", demo).splitlines()
    rest = ["--cursor", run.err.split()[-1]]
    second = run("ls", "--sort", "cost", *rest, "--store", demo).splitlines()
    listed = [line.split()[0] for line in (*first[1:], *second[1:])]
    assert listed == [one["session_id"] for one in whole]


def test_list_as_json(demo: Path, run: Run) -> None:
    """--json prints one array of summaries, an empty one where nothing fits."""
    found = json.loads(run("ls", "--json", "--store", demo))
    assert [one["session_id"] for one in found] == ids(demo)
    assert found[0]["tags"] == {"customer": "carol", "channel": "mail"}
    none = run("ls", "--json", "--store", demo, "--after", "2100-01-01", code=1)
    assert json.loads(none) == []


def test_unknown_prices_are_not_zero(fresh: LogStore, path: Path, run: Run) -> None:
    """A call without a price is shown as unpriced wherever money is, and never as $0."""
    ask(fresh, "How much?", reply("Who knows.", model="house-model-1"))
    ask(fresh, "And this?", reply("No usage.", usage=None))
    for arguments in (["ls"], ["show", ids(path)[0]], ["events", ids(path)[0]]):
        shown = run(*arguments, "--store", path)
        assert "unpriced" in shown
        assert "$0" not in shown
    assert "unknown" in run("cost", "--store", path)


def test_pipes_get_everything(fresh: LogStore, path: Path, run: Run) -> None:
    """What is not a terminal gets plain lines, each whole, however long."""
    ask(fresh, "x", note="word " * 400)
    lines = run("ls", "--store", path).splitlines()
    assert len(lines) == 2
    assert lines[1].count("word") == 400
    assert "\x1b" not in lines[1]
    assert lines[0] == lines[0].rstrip()


def test_terminals_get_whole_ids(demo: Path) -> None:
    """On a narrow terminal no line is wider than it and no id is cut; a wide one gets a table."""
    narrow = on_terminal(80, "ls", "--store", demo, NO_COLOR="1")
    plain = re.sub(r"\x1b\[[0-9;]*m", "", narrow)
    assert max(len(line.rstrip()) for line in plain.splitlines()) <= 80
    assert [word for word in plain.split() if word in ids(demo)] == ids(demo)
    assert "\x1b[31m" not in narrow
    wide = on_terminal(200, "ls", "--store", demo)
    assert "\x1b[31m✗ failure" in wide
    assert "TACTIC" in wide


# -- show


def test_show_tells_all(demo: Path, run: Run) -> None:
    """The tree has agents, attempts, tools, retries, waits, sub-tactics, tokens, cost, delivery."""
    session_id = ids(demo)[-1]
    out = run("show", session_id, "--store", demo)
    for part in (
        f"id {session_id}",
        "tags channel=mail customer=alice",
        'task {"order":"A-17"',
        "agent sorter  ✓ success",
        "↻ asked again (1 of 3): The answer does not fit its format",
        '✓ find_order {"order":"A-17"} → {"item":"kettle"',
        '✗ track_parcel {"order":"A-17"} → TimeoutError: The carrier',
        "↻ called again after 50 ms (1 of 3): ",
        "✗ #4 step 2, attempt 1 · gpt-4o-mini",
        "✓ #5 step 2, attempt 2 · gpt-4o-mini",
        "proofread  ✓ success",
        "595 → 109 tokens  $0.000155",
        'delivered {"topic":"delivery"',
    ):
        assert part in out
    assert out.index("agent sorter") < out.index("agent writer") < out.index("proofread")


def test_show_ends_with_the_traceback(demo: Path, run: Run) -> None:
    """A failed session's message stands in its tree, and its traceback at the end."""
    out = run("show", ids(demo, state="failure")[0], "--store", demo)
    assert "└── LookupError: There is no order 'Z-99'." in out
    assert "Traceback (most recent call last)" in out
    assert out.endswith("LookupError: There is no order 'Z-99'.\n")


def test_a_beginning_of_an_id_will_do(demo: Path, run: Run) -> None:
    """A prefix that one session has is as good as its id; one that several have is bad input."""
    session_id = ids(demo)[-1]
    assert run("show", session_id[:20].upper(), "--store", demo) == run(
        "show", session_id, "--store", demo
    )
    run("show", "0", "--store", demo, code=2)
    assert "Several ids begin with" in run.err


def test_show_as_json(demo: Path, run: Run) -> None:
    """--json prints the exported session."""
    session_id = ids(demo)[0]
    with open_store(str(demo)) as store:
        assert run("show", session_id, "--json", "--store", demo).rstrip() == store.export_session(
            session_id
        )


HOSTILE = "[red]a[/red] :smile: \x1b[31mred\x1b[0m \u202erev\u200b \x9b2J \ud800 \r\n end"


def test_texts_are_only_texts(fresh: LogStore, path: Path, run: Run) -> None:
    """Markup, escape sequences and marks that turn text around are shown, and do nothing."""
    ask(fresh, HOSTILE, reply(HOSTILE), note=HOSTILE)
    session_id = ids(path)[0]
    for arguments in (
        ["ls"],
        ["show", session_id],
        ["events", session_id],
        ["cost", "--by", "tag:note"],
    ):
        out = run(*arguments, "--store", path)
        assert "[red]a[/red] :smile: \\x1b[31mred" in out or "[red]a" in out
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\u200b\ud800]", out)
    assert "\\u202erev\\u200b \\x9b2J \\ud800 \\r\\n end" in run(
        "show", session_id, "--store", path
    )


def test_long_texts_say_what_is_left_out(fresh: LogStore, path: Path, run: Run) -> None:
    """A long task is cut visibly, with the number of characters left out."""
    ask(fresh, "x" * 10_240)
    assert "x… (+10,000 characters)" in run("show", ids(path)[0], "--store", path)


def test_json_on_a_terminal_is_harmless(fresh: LogStore, path: Path) -> None:
    """On a terminal, JSON has its unsafe characters as escapes, and means the same."""
    ask(fresh, "\x9b2J \u202e")
    out = on_terminal(80, "show", ids(path)[0], "--json", "--store", path)
    assert not set("\x9b\u202e") & set(out)
    assert json.loads(out)["task"] == "\x9b2J \u202e"


# -- events and tail


def test_events_are_one_a_line(demo: Path, run: Run) -> None:
    """Each event of the session has one line, with its position, number, type and short form."""
    session_id = ids(demo)[-1]
    with open_store(str(demo)) as store:
        recorded = list(store.events(session_id))
    lines = run("events", session_id, "--store", demo).splitlines()
    assert [(line.split()[0], line.split()[1], line.split()[3]) for line in lines] == [
        (str(event.position), str(event.seq), event.type) for event in recorded
    ]
    assert "kind=llm_recall attempt=1 limit=3 wait=50 ms" in "\n".join(lines)
    assert run("events", session_id, "--json", "--store", demo) == as_jsonl(recorded)


def test_events_of_an_error(fresh: LogStore, path: Path, run: Run) -> None:
    """The id that save_error gave finds its event."""
    error_id = fresh.save_error(RuntimeError("outside"), context={"job": 7})
    assert "RuntimeError: outside" in run("events", error_id, "--store", path)
    run("events", "error-none", "--store", path, code=1)


def test_tail_follows(fresh: LogStore, path: Path) -> None:
    """tail shows the last events, then those of other processes as they come; Ctrl-C ends it."""
    ask(fresh, "before")
    child = in_child("tail", "-n", 2, "--store", path)
    assert child.stdout is not None
    assert [child.stdout.readline().split()[4] for _ in range(2)] == [
        "agent.succeeded", "session.succeeded",
    ]  # fmt: skip
    ask(fresh, "behind")
    lines = [child.stdout.readline() for _ in range(2)]
    assert "session.started" in lines[0]
    assert "task=behind" in lines[0]
    child.send_signal(signal.SIGINT)
    _, err = child.communicate()
    assert (child.returncode, err) == (0, "")


def test_tail_of_one_session(demo: Path) -> None:
    """--session shows a session and those below it, -n counts those events, --json prints them."""
    chosen = ids(demo)[-1]
    with open_store(str(demo)) as store:
        session = store.load_session(chosen)
        below = session.sub_tactic_sessions["proofread"][0].session_id
        count = sum(len(list(store.events(one))) for one in (chosen, below))
    child = in_child("tail", "-n", 1000, "--session", chosen[:20], "--json", "--store", demo)
    assert child.stdout is not None
    streams = [json.loads(child.stdout.readline())["stream"] for _ in range(count)]
    child.send_signal(signal.SIGINT)
    out, _ = child.communicate()
    assert (set(streams), out, child.returncode) == ({chosen, below}, "", 0)


@pytest.mark.parametrize("command", [("ls",), ("tail",), ("cost", "--json"), ("rebuild",)])
def test_a_reader_may_go_away(demo: Path, command: tuple[str, ...]) -> None:
    """A reader that stops (`| head`) ends the command without a word."""
    ours, theirs = os.pipe()
    os.close(ours)
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from lllm.cli import main; sys.exit(main())",
         *command, "--store", str(demo)],
        stdout=theirs, stderr=subprocess.PIPE, timeout=60, check=False,
    )  # fmt: skip
    os.close(theirs)
    assert (done.returncode, done.stderr) == (0, b"")


# -- cost


@pytest.mark.parametrize(
    ("by", "keys"),
    [
        ("tactic", ["answer_ticket", "proofread"]),
        ("model", ["gpt-4o-mini"]),
        ("agent", ["writer", "sorter", "editor"]),
        ("tag:customer", ["alice", "bob", "carol"]),
        ("tag:none", ["(none)"]),
    ],
)
def test_cost_groups(demo: Path, run: Run, by: str, keys: list[str]) -> None:
    """Costs are summed by tactic, model, agent or tag, the greatest first, the total last."""
    lines = run("cost", "--by", by, "--store", demo).splitlines()
    assert {line.split()[0] for line in lines[1:-1]} == set(keys)
    bars = [line.count("█") for line in lines[1:-1]]
    assert bars[0] == 20
    assert bars == sorted(bars, reverse=True)
    assert lines[-1].split()[:3] == ["total", "$0.000362", "13"]


def test_cost_as_json(demo: Path, run: Run) -> None:
    """--json prints what export_cost_summary returns, with the same filters."""
    options = ["--by", "agent", "--tag", "customer=alice", "--state", "success"]
    with open_store(str(demo)) as store:
        expected = store.export_cost_summary(
            group_by="agent", tags={"customer": "alice"}, state="success"
        )
    assert json.loads(run("cost", *options, "--json", "--store", demo)) == expected
    assert "day (UTC)" in run("cost", "--by", "day", "--utc", "--store", demo)


def test_cost_in_groups(demo: Path, run: Run) -> None:
    """--by twice shows groups within groups, indented, each with its bar, and what was wasted only
    where something was."""
    lines = run("cost", "--by", "tactic", "--by", "agent", "--store", demo).splitlines()
    assert lines[0].split()[:4] == ["tactic", "/", "agent", "COST"]
    assert [re.match(r" *\w+", line)[0] for line in lines[1:]] == [  # type: ignore[index] # each begins with a name
        "answer_ticket", "  writer", "  sorter", "proofread", "  editor", "total",
    ]  # fmt: skip
    assert [line.count("█") for line in lines[1:3]] == [20, 14]
    assert "WASTED" in lines[0]
    assert "UNPRICED" not in lines[0]
    assert lines[3].split()[-3:] == ["$0.000015", "339", "49"]
    assert "WASTED" not in run("cost", "--tactic", "proofread", "--store", demo)


def test_cost_as_csv(demo: Path, run: Run) -> None:
    """--csv prints one line for each innermost group, whose amounts add up to the total exactly."""
    options = ["--by", "tactic", "--by", "tag:customer", "--by", "model"]
    rows = list(csv.DictReader(run("cost", *options, "--csv", "--store", demo).splitlines()))
    assert list(rows[0])[:5] == [
        "tactic", "tag:customer", "model", "session_count", "total_cost_usd",
    ]  # fmt: skip
    assert [(row["tactic"], row["tag:customer"]) for row in rows] == [
        ("answer_ticket", "alice"), ("answer_ticket", "bob"), ("answer_ticket", "carol"),
        ("proofread", "alice"), ("proofread", "bob"),
    ]  # fmt: skip
    assert sum(Decimal(row["total_cost_usd"]) for row in rows) == Decimal("0.000361950")
    assert sum(int(row["calls"]) for row in rows) == 13
    by_tag = list(
        csv.DictReader(run("cost", "--by", "tag:no", "--csv", "--store", demo).splitlines())
    )
    assert [(row["tag:no"], row["session_count"]) for row in by_tag] == [("", "4")]
    nothing = run("cost", "--csv", "--after", "2100-01-01", "--store", demo, code=1)
    assert nothing.splitlines()[0].startswith("tactic,session_count,total_cost_usd")


@pytest.mark.parametrize("suffix", [".json", ".toml"])
def test_cost_at_other_prices(demo: Path, run: Run, tmp_path: Path, suffix: str) -> None:
    """Other prices, or another model, are shown beside what was recorded, with the difference."""
    lines = run("cost", "--as-model", "gpt-4o", "--store", demo).splitlines()
    assert lines[0].split()[1:4] == ["COST", "RECORDED", "DIFFERENCE"]
    assert lines[-2].split()[:4] == ["total", "$0.006032", "$0.000362", "+$0.005671"]
    assert lines[-1] == "COST is as gpt-4o, at the prices of the day of each call."
    table = tmp_path / f"prices{suffix}"
    rates = {"input": 0.01, "output": 0.1}
    table.write_text(
        json.dumps({"gpt-4o-mini": rates}) if suffix == ".json"
        else "[gpt-4o-mini]\ninput = 0.01\noutput = 0.1\n"
    )  # fmt: skip
    options = ["--prices", table, "--by", "model", "--store", demo]
    found = json.loads(run("cost", *options, "--json"))
    assert found["total_cost_usd"] == (1_349 * 10 + 266 * 100) / 10**9
    assert found["prices"] == "given"
    assert run("cost", *options).splitlines()[-2].split()[3] == "-$0.000322"
    same = run("cost", "--prices", "current", "--csv", "--store", demo)
    assert same == run("cost", "--csv", "--store", demo)


def test_prices_that_are_none(demo: Path, run: Run, tmp_path: Path) -> None:
    """A file that is no table of prices is bad input, told in one line that names what is wrong."""
    texts = {
        "a.json": "{", "b.json": "[]", "c.toml": "x", "d.toml": "[m]\ninput = 1", "e.json": "\xff",
        "f.json": '{"m": {"input": NaN, "output": 1}}', "g.json": "[" * 100_000,
    }  # fmt: skip
    for name, text in texts.items():
        (tmp_path / name).write_bytes(text.encode("latin-1"))
    for name in (*texts, "none.toml", "folder.json", "currant"):
        (tmp_path / "folder.json").mkdir(exist_ok=True)
        assert run("cost", "--prices", tmp_path / name, "--store", demo, code=2) == ""
        assert len(run.err.splitlines()) == 1
        assert run.err.startswith("lllm: ")
    run("cost", "--as-model", "no-such-model", "--store", demo, code=2)
    assert "no-such-model" in run.err


AMOUNT = re.compile(r"([\d,]+) (in|cached|out) x \$([\d.]+)/M")


def test_the_cost_table_can_be_checked(demo: Path, run: Run) -> None:
    """From what `show` prints of each session, tokens times rates, the cost table of the demo can
    be worked out with a pocket calculator."""
    bills: dict[str, Decimal] = {}
    for session_id in ids(demo):
        out = run("show", session_id, "--store", demo)
        customer = re.search(r"customer=(\w+)", out)
        assert customer
        for line in out.splitlines():
            products = AMOUNT.findall(line)
            if products:
                made = sum(
                    int(tokens.replace(",", "")) * Decimal(rate) / 1_000_000
                    for tokens, _, rate in products
                )
                assert Decimal(line.rpartition("= $")[2]) == made
                bills[customer[1]] = bills.get(customer[1], Decimal(0)) + made
    shown = {
        line.split()[0]: next(word for word in line.split() if word.startswith("$"))
        for line in run("cost", "--by", "tag:customer", "--store", demo).splitlines()[1:]
    }
    bills["total"] = sum(bills.values(), Decimal(0))
    assert shown == {name: f"${bill:.6f}" for name, bill in bills.items()}


@pytest.mark.parametrize(
    ("usage", "price", "said"),
    [
        (
            Usage(input=1_200, output=80, cache_read=300, cache_write_5m=100, reasoning=30),
            None,
            "800 in x $3.00/M + 300 cached x $0.30/M + 100 written x $3.75/M"
            " + 80 out x $15.00/M = $0.004065",
        ),
        (Usage(input=3), Price("priced", nanos=5, parts={"total": 5}, source="user"),
         "$0.000000005, as user says"),
        (Usage(input=3), Price("priced", nanos=5, parts={"input": 2, "new": 3}),
         "input $0.000000002 + new $0.000000003 = $0.000000005"),
        (Usage(input=3), Price("priced", nanos=0, parts={"input": 0}, rates={"input": "1E-10"}),
         "3 in x $0.0001/M ≈ $0.00"),
        (None, Price("provider", nanos=2_500_000_000, source="openrouter"),
         "$2.50, as openrouter says"),
        (None, Price("free", nanos=0, reason="from a cache"), "free: from a cache"),
        (None, Price("unpriced", reason="nobody\x1b knows"), "unpriced: nobody\\x1b knows"),
        (Usage(input=3), Price("priced", nanos=3, parts={"input": 3}, rates={"input": "NaN"}),
         "$0.000000003"),
        (Usage(input=3), Price("priced", nanos=3, parts={"input": 3}, rates={"newer": "1"}),
         "$0.000000003"),
        (None, None, ""),
    ],
)  # fmt: skip
def test_how_a_price_is_explained(usage: Usage | None, price: Price | None, said: str) -> None:
    """A price is shown as the products that make it, and where it was not made so, by who says it
    or why there is none."""
    if usage is not None and price is None:
        price = price_of(usage, provider="anthropic", model="claude-sonnet-4-5", at=0)
    trace = InvokeTrace(request=1, step=1, attempt=1, provider="p", asked="m", started=0)
    trace.usage, trace.cost = usage, InvokeCost.of(usage, price)
    if price is not None:
        trace.price, trace.price_source = price.status, price.source
        trace.price_reason, trace.rates, trace.parts = price.reason, price.rates, price.parts
    assert price_breakdown(trace) == said


# -- export, tag, rebuild


@pytest.mark.parametrize("format_", ["json", "jsonl"])
def test_export(demo: Path, run: Run, tmp_path: Path, format_: str) -> None:
    """A session is exported to standard output or to a file, as JSON or as its events."""
    session_id = ids(demo)[-1]
    with open_store(str(demo)) as store:
        expected = store.export_session(session_id, format_).rstrip("\n") + "\n"
    options = ["--format", format_, "--store", demo]
    assert run("export", session_id, *options) == expected
    assert run("export", session_id[:20], "-o", tmp_path / "out", *options) == ""
    assert (tmp_path / "out").read_text() == expected


def test_tag(fresh: LogStore, path: Path, run: Run) -> None:
    """Tags are added, changed and removed, and those that there are now are printed."""
    ask(fresh, "x", env="dev", user="al")
    session_id = ids(path)[0]
    out = run("tag", session_id[:20], "env=prod", "why=a=b", "--remove", "user", "--store", path)
    assert out == f"{session_id}  env=prod why=a=b\n"
    assert ids(path, state="success") == [session_id]
    with open_store(str(path)) as store:
        assert store.list_sessions(tags={"why": "a=b"})[0].tags == {"env": "prod", "why": "a=b"}


def test_tag_on_a_full_disk(fresh: LogStore, path: Path) -> None:
    """Tags that can't be written are an error, not a promise: they would be held by a process that
    ends."""
    ask(fresh, "x")
    (session_id,) = ids(path)
    full = (
        "import resource, sys; from lllm.cli import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (36_000, resource.RLIM_INFINITY))\n"
        "sys.exit(main())"
    )
    tag = ["tag", session_id, f"long={'x' * 60_000}", "--store", str(path)]
    ended = subprocess.run(
        [sys.executable, "-c", full, *tag], capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("lllm: The tags were not written. ")
    assert len(ended.stderr.splitlines()) == 1
    with open_store(str(path)) as store:
        assert store.list_sessions()[0].tags == {}


def test_rebuild(demo: Path, run: Run, tmp_path: Path) -> None:
    """A rebuild says what it built; a check names the first difference, and a rebuild mends it."""
    path = tmp_path / demo.name
    if demo.is_dir():
        shutil.copytree(demo, path)
        rows = path / "rows.sqlite"
    else:
        with sqlite3.connect(demo) as source, sqlite3.connect(path) as target:
            source.backup(target)
        source.close()
        target.close()
        rows = path
    assert run("rebuild", "--store", path).startswith(
        "sessions, tags, costs, calls, holds, annotations, merkle, messages: "
    )
    assert "as the events say" in run("rebuild", "--check", "--store", path)
    connection = sqlite3.connect(rows)
    (table,) = connection.execute(
        "SELECT name FROM sqlite_master WHERE name GLOB 'session_totals_v[0-9]*' AND type = 'table'"
    ).fetchone()
    with connection:
        connection.execute(
            f"UPDATE {table} SET calls = 77 WHERE session IN"
            " (SELECT number FROM sessions WHERE state = 'failure')"
        )
    connection.close()
    out = run("rebuild", "--check", "--store", path, code=1)
    assert "calls is 77, by the events 1" in out
    assert len(out.splitlines()) == len(run.err.splitlines()) == 1
    run("rebuild", "--store", path)
    run("rebuild", "--check", "--store", path)


def test_rebuild_shows_progress(demo: Path) -> None:
    """On a terminal a rebuild has a progress bar; in a pipe it has none."""
    assert "Checking" in on_terminal(80, "rebuild", "--check", "--store", demo)
    child = in_child("rebuild", "--check", "--store", demo)
    assert child.communicate()[1] == ""


# -- what goes wrong


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["--nonsense"],
        ["ls", "--nonsense"],
        ["ls", "--tag", "alone"],
        ["ls", "--tag", "=v"],
        ["ls", "--tag", "a=1", "--tag", "a=2"],
        ["ls", "--state", "asleep"],
        ["ls", "--after", "yesteryear"],
        ["ls", "--tz", "Europe/Berln"],
        ["ls", "--utc", "--tz", "UTC"],
        ["ls", "--limit", "many"],
        ["ls", "--cursor", "x"],
        ["show"],
        ["cost", "--by", "colour"],
        ["cost", "--by", "tag:"],
        ["cost", "--by", "model", "--by", "model"],
        ["cost", "--json", "--csv"],
        ["cost", "--prices", "yesterday's"],
        ["ls", "--sort", "length"],
        ["ls", "--sort", "cost", "--cursor", "1.x"],
        ["export", "0", "--format", "xml"],
        ["tag", "0"],
        ["tag", "0", "alone"],
        ["tail", "-n", "-1"],
        ["cost", "--slower", "odd"],
        ["export", "--dataset", "--min-cost", "odd"],
        ["export", "0", "--max-cost", "0"],
    ],
)
def test_bad_input(demo: Path, run: Run, arguments: list[str]) -> None:
    """Bad input is one line on stderr and exit code 2."""
    assert (
        run(*arguments, *(["--store", str(demo)] if arguments[0] in COMMANDS else []), code=2) == ""
    )
    assert run.err.startswith("lllm: ")
    assert len(run.err.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["ls", "--tag", "customer=nobody"],
        ["ls", "--tactic", "none"],
        ["cost", "--tag", "customer=nobody"],
        ["show", "zz"],
        ["events", "zz"],
        ["tail", "--session", "zz"],
        ["export", "zz"],
        ["tag", "zz", "a=b"],
    ],
)
def test_nothing_found(demo: Path, run: Run, arguments: list[str]) -> None:
    """Where nothing is found, one line on stderr says so, and the exit code is 1."""
    assert run(*arguments, "--store", demo, code=1) == ""
    assert len(run.err.splitlines()) == 1


def test_empty_store(fresh: LogStore, path: Path, run: Run) -> None:
    """A store without sessions is no error of the user's; it is said in one line."""
    assert fresh.list_sessions() == []
    run("ls", "--store", path, code=1)
    assert run.err == "lllm: The store has no sessions yet.\n"


def test_no_store_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --store and LLLM_STORE, both are told."""
    monkeypatch.delenv("LLLM_STORE", raising=False)
    run("ls", code=2)
    assert "--store" in run.err
    assert "LLLM_STORE" in run.err


def make_foreign(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (x)")
    connection.commit()
    connection.close()


@pytest.mark.parametrize("kind", ["missing", "folder", "empty", "text", "foreign", "their jsonl"])
@pytest.mark.parametrize("command", [("ls",), ("tag", "0", "a=b"), ("rebuild",), ("cost",)])
def test_looking_makes_nothing(
    tmp_path: Path, run: Run, kind: str, command: tuple[str, ...]
) -> None:
    """A path where no store is gives one line and exit code 2, and stays as it was."""
    path = tmp_path / "it.db"
    if kind in ("folder", "their jsonl"):
        path.mkdir()
    if kind == "their jsonl":
        (path / "data.jsonl").write_text("{}\n")
    if kind in ("empty", "text"):
        path.write_text("" if kind == "empty" else "hello " * 100)
    if kind == "foreign":
        make_foreign(path)
    before = sorted(tmp_path.rglob("*"))
    run(*command, "--store", path, code=2)
    assert len(run.err.splitlines()) == 1
    assert str(path) in run.err
    assert sorted(tmp_path.rglob("*")) == before


def test_broken_stores(fresh: LogStore, path: Path, run: Run) -> None:
    """A store of a newer format, or one that is damaged, is one line and exit code 2."""
    ask(fresh, "x" * 20_000)
    session_id = ids(path)[0]
    fresh.close()
    if path.is_dir():
        segment = next(path.glob("0*.jsonl"))
        text = segment.read_text()
        segment.write_text(text.replace("Well.", "Lies.", 1))
        run("show", session_id, "--store", path, code=2)
        (path / "log.json").write_text('{"format": 99}')
    else:
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA user_version = 99")
        connection.close()
    run("ls", "--store", path, code=2)
    assert "Upgrade lllm" in run.err
    assert len(run.err.splitlines()) == 1
    if path.is_file():
        path.write_bytes(path.read_bytes()[:9_000])
        run("ls", "--store", path, code=2)
        assert len(run.err.splitlines()) == 1
