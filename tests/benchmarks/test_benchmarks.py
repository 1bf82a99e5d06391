"""The tools of the benchmarks that others may use: the generator of stores, and the charts."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import charts
from benchmarks.__main__ import main
from benchmarks.generate import Shape, appends, fill
from benchmarks.generate_command import generate_command
from benchmarks.generated_tags import APART, HALVES, USER, user_of_at_most
from benchmarks.soak import trends
from benchmarks.soak_workers import Sample
from lllm import LocalFileBackend, LogStore, SQLiteBackend
from lllm.events import codec
from lllm.events.integrity.verify import verify
from lllm.events.model import AgentDefined

ROOTS = 25
SHAPES: tuple[Shape, ...] = ("usual", "small")


def content(path: Path, seed: int) -> list[tuple[int, int, str, object]]:
    """What a seed makes, but for salts and ids."""
    log = SQLiteBackend(path)
    fill(log, ROOTS, seed=seed)
    found: list[tuple[int, int, str, object]] = []
    for event in log.read():
        values = codec.values(event.data)
        assert isinstance(values, dict)
        for name in ("salt", "about", "ancestors"):
            values.pop(name, None)
        found.append((event.seq, event.time, event.type, values))
    log.close()
    return found


@pytest.mark.parametrize("shape", SHAPES)
def test_verify_finds_nothing(tmp_path: Path, shape: Shape) -> None:
    """A generated log holds as many events as it was said to, each with a digest that fits, in
    streams without holes."""
    log = SQLiteBackend(tmp_path / "log.db")
    made = fill(log, ROOTS, shape=shape, halves=True)
    found = verify(log)
    log.close()
    assert found.events == made.events
    assert found.damages == ()
    assert found.unchecked == 0


@pytest.mark.parametrize("shape", SHAPES)
def test_store_can_be_read(tmp_path: Path, shape: Shape) -> None:
    """Every session of a generated store can be listed and loaded, in a folder of JSONL files too,
    and has ended."""
    with LogStore(LocalFileBackend(tmp_path / "log")) as store:
        made = fill(store.backend, ROOTS, shape=shape)
        sessions = store.list_sessions()
        assert len(sessions) == made.roots == ROOTS
        assert {one.state for one in sessions} <= {"success", "failure"}
        for one in sessions:
            loaded = store.load_session(one.session_id)
            assert loaded.state == one.state
            assert loaded.unknown_events == 0


def test_same_seed(tmp_path: Path) -> None:
    """The same seed makes the same events at the same times, another seed others."""
    first, again, other = (content(tmp_path / f"{n}.db", seed) for n, seed in enumerate((1, 1, 2)))
    assert first == again
    assert first != other


def test_long_sessions(tmp_path: Path) -> None:
    """As many sessions as were asked for have about a thousand events."""
    log = SQLiteBackend(tmp_path / "log.db")
    fill(log, 10, shape="small", long=2)
    lengths = Counter(event.stream for event in log.read())
    log.close()
    assert sum(length > 700 for length in lengths.values()) == 2
    assert sum(length <= 4 for length in lengths.values()) >= 8


def test_message_bytes(tmp_path: Path) -> None:
    """Messages are of the length that was asked for, in the middle."""
    log = SQLiteBackend(tmp_path / "log.db")
    fill(log, 5, message_bytes=20_000)
    lengths = sorted(len(event.data) for event in log.read() if event.type == "session.started")
    log.close()
    assert 5_000 < lengths[len(lengths) // 2] < 80_000


def test_what_lists_are_tried_on(tmp_path: Path) -> None:
    """Two halves that never meet, two tags that never meet, and a user with few sessions."""
    with LogStore(SQLiteBackend(tmp_path / "log.db")) as store:
        fill(store.backend, 400, shape="small", halves=True)
        assert len(store.list_sessions()) == 400
        for tag in HALVES:
            assert 130 < len(store.list_sessions(tags=dict([tag]))) < 270
        for pair in (HALVES, APART):
            assert store.list_sessions(tags=dict(pair)) == []
        user = user_of_at_most(20, 400)
        assert 0 < len(store.list_sessions(tags={USER: user})) <= 20


def test_moments_of_writers(tmp_path: Path) -> None:
    """What writers append are whole sessions, one after another, that verify finds nothing in."""
    log = SQLiteBackend(tmp_path / "log.db")
    source = appends(seed=1)
    for _ in range(100):
        log.append(next(source))
    assert verify(log).damages == ()
    log.close()


def test_generate(tmp_path: Path) -> None:
    """The command makes a store whose rows are there, says what it made, and refuses a path where
    something is."""
    path = tmp_path / "made.db"
    arguments = [str(path), "--sessions", "30", "--events-per-session", "small"]
    result = CliRunner().invoke(generate_command, arguments)
    assert result.exit_code == 0, result.output
    assert "30 sessions" in result.output
    with LogStore(SQLiteBackend(path, read_only=True)) as store:
        assert store.lag == 0
        assert len(store.list_sessions()) == 30
        assert sum(event.type == AgentDefined.type for event in store.backend.read()) == 1
    again = CliRunner().invoke(generate_command, arguments)
    assert again.exit_code == 1
    assert "exists already" in again.output


def texts(svg: str) -> list[str]:
    """All that can be read on a chart."""
    return [element.text or "" for element in ElementTree.fromstring(svg).iter()]


def test_lines() -> None:
    """A chart of lines is well-formed, with its title, the units of its axes, and a line for every
    series; text is escaped."""
    points = [(0.0, 0.0), (1.0, 5.0), (2.0, 4.0)]
    panel = charts.Panel("wait <p99>", "ms", {"one & two": points, "other": points[:1]})
    svg = charts.lines("A & B", [panel], "minutes")
    assert {"A & B", "wait <p99>, ms", "one & two", "minutes"} <= set(texts(svg))
    assert svg.count("<polyline") == 2


def test_lines_of_nothing() -> None:
    """Without a single point there is no chart; values that are all alike are one."""
    with pytest.raises(ValueError, match="at least one point"):
        charts.lines("empty", [charts.Panel("wait", "ms", {"one": []})], "minutes")
    texts(charts.lines("flat", [charts.Panel("wait", "ms", {"one": [(1.0, 0.0)]})], "minutes"))


def test_bars() -> None:
    """A bar begins at 1 and goes to its value, left for what is below 1; the values stand beside
    them."""
    svg = charts.bars(
        "peers", [("slow", 100.0), ("fast", 0.1), ("alike", 1.0)], "times", better="less"
    )
    assert {"peers", "slow", "fast", "alike", "times", "100", "0.1"} <= set(texts(svg))
    rects = [one.attrib for one in ElementTree.fromstring(svg).iter() if one.tag.endswith("rect")]
    slow, fast, alike = ((float(one["x"]), float(one["width"])) for one in rects[1:])
    assert slow[0] == pytest.approx(fast[0] + fast[1], abs=0.2)
    assert slow[1] == pytest.approx(2 * fast[1], rel=0.01)
    assert alike == (slow[0], 1.0)


@pytest.mark.parametrize("rows", [[], [("none", 0.0)], [("negative", -1.0)]])
def test_bars_of_nothing(rows: list[tuple[str, float]]) -> None:
    """What has no place on a logarithmic scale is refused."""
    with pytest.raises(ValueError, match="above 0"):
        charts.bars("peers", rows, "times", better="less")


def samples(rates: list[int], memory: list[float]) -> list[Sample]:
    """A writer's, one a second."""
    return [
        Sample("writer", 1, float(n), rate, 1.0, 2.0, 3.0, held)
        for n, (rate, held) in enumerate(zip(rates, memory, strict=True), 1)
    ]


def test_trends() -> None:
    """A rate that falls and memory that grows are not flat; what stays as it was is."""
    steady = [40.0] * 9
    same = trends(samples([100] * 9, steady), 9.0)
    assert all(one.flat for one in same)
    assert len(same) == 3
    slower = trends(samples([100] * 6 + [50] * 3, steady), 9.0)
    assert [one.flat for one in slower] == [False, True, True]
    larger = trends(samples([100] * 9, [40.0 + 2 * n for n in range(9)]), 9.0)
    assert [one.flat for one in larger] == [True, True, False]


def test_an_area_that_is_none() -> None:
    """A word that no area has in its name measures nothing, and says which areas there are."""
    result = CliRunner().invoke(main, ["--only", "nowhere"])
    assert result.exit_code == 2
    assert "No area has 'nowhere' in its name: start, append" in result.output
