"""What the JSONL log promises beyond the contract: its files, torn tails, damage, segments."""

from __future__ import annotations

import json
import os
import pickle
import random
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from itertools import product
from pathlib import Path
from types import FrameType

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lllm.events.backends.jsonl.backend import LocalFileBackend
from lllm.events.backends.jsonl.line_format import decode, encode_append
from lllm.events.backends.memory import MemoryBackend
from lllm.events.concurrency.locks import FileLock
from lllm.events.envelope import NewEvent
from lllm.events.errors import LogDamaged, LogError, LogTooNew, LogUnavailable
from lllm.testing.writers import batch, event, without_positions
from tests.support.apart import apart

FIRST = f"{0:020}.jsonl"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log"


def files_of(path: Path) -> list[Path]:
    return sorted(path.glob("*.jsonl"))


def noted(path: Path, position: int) -> None:
    """No append behind a position was acknowledged, so none was noted."""
    (path / "locks" / "write.lock").write_bytes(b"%020d\n" % position)


def salvage(log: LocalFileBackend) -> tuple[list[NewEvent], list[LogDamaged]]:
    """All that can be read, and every damage that was met on the way."""
    found: list[NewEvent] = []
    damages: list[LogDamaged] = []
    after = -1
    while not damages or after < damages[-1].position:
        after = damages[-1].position if damages else 0
        try:
            for one in log.read(after=after):
                found += without_positions([one])
        except LogDamaged as damage:
            damages.append(damage)
        else:
            return found, damages
    raise AssertionError(f"reading after {after} does not go on behind the damage")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b',"more":0', b',"text":"another","more":0'),
        (b',"more":0', b',"base64":"YQ==","more":0'),
        (b'"data":1,', b""),
        (b'"seq":1', b'"seq":01'),
        (b'"seq":1', b'"seq": 1'),
        (b'"seq":1', b'"seq":1.0'),
        (b"0a", b"0A"),
        (b"0a", b" 0a"),
        (b'"stream":"s","seq":1', b'"seq":1,"stream":"s"'),
        (b'"stream":"s"', b'"stream":"\\u0073"'),
        (b',"more":0', b',"other":1,"more":0'),
        (b'"data":1', b'"data":1,"data":1'),
        (b'"data":1', b'"data":1,"text":null'),
        (b',"more":0}', b',"more":0} '),
    ],
)
def test_each_event_has_one_line(before: bytes, after: bytes) -> None:
    """A line that says the same in other bytes is none of the log's: no digest covers those."""
    stored = msgspec.structs.replace(event("s", 1, b"1"), digest=bytes([10]) * 32)
    line = encode_append([stored])[0][:-1]
    assert decode(7, line).data == b"1"
    assert before in line
    with pytest.raises(ValueError, match=r"."):
        decode(7, line.replace(before, after, 1))


def torn_line(length: int) -> bytes:
    """A line whose write was cut short in a payload of so many bytes."""
    content, _ = encode_append([event("torn", 1, b'"%b"' % (b"x" * length))])
    return content[: -len('","more":0}\n')]


class TestFiles:
    """What stands on the disk."""

    def test_layout(self, path: Path) -> None:
        """A new log is a folder with its format, its locks and, once written to, its first
        segment; the rows' database comes when it is asked for."""
        log = LocalFileBackend(path)
        assert json.loads((path / "log.json").read_text()) == {"format": 1}
        assert log.liveness.owner() in {file.stem for file in (path / "locks").iterdir()}
        log.append(batch("s", 0))
        assert sorted(os.listdir(path)) == [FIRST, "locks", "log.json"]
        assert log.rows_database() is log.rows_database()
        assert log.rows_path.exists()
        log.liveness.close()
        log.close()

    def test_one_line_an_event(self, path: Path) -> None:
        """Every line is a JSON object that any tool can read, the payload inside it as JSON;
        `stream` stands first, and `more`, the events of the same append that follow, last."""
        log = LocalFileBackend(path)
        stored = event("s", 1, b'{"text":"hello"}', time=5)
        log.append([stored, *batch("t", 0)])
        lines = [json.loads(line) for line in (path / FIRST).read_text().splitlines()]
        assert list(lines[0].items()) == [
            ("stream", "s"),
            ("seq", 1),
            ("time", 5),
            ("type", "test.happened"),
            ("version", 1),
            ("digest", stored.digest.hex()),
            ("data", {"text": "hello"}),
            ("more", 3),
        ]
        assert [line["more"] for line in lines] == [3, 2, 1, 0]

    @pytest.mark.parametrize(
        ("data", "field", "value"),
        [
            (b'{"a":\n1}', "text", '{"a":\n1}'),
            (b" 1", "text", " 1"),
            (b"nonsense", "text", "nonsense"),
            (b"\xff", "base64", "/w=="),
        ],
    )
    def test_payload_in_a_string(self, path: Path, data: bytes, field: str, value: str) -> None:
        """A payload that can't stand in a line as it is stands in a string."""
        LocalFileBackend(path).append([event("s", 1, data)])
        line = json.loads((path / FIRST).read_text())
        assert line[field] == value
        assert "data" not in line

    def test_position_is_the_offset_behind_the_newline(self, path: Path) -> None:
        """A position is the offset just past an event's newline, so `tail -c +N` goes on there."""
        positions = LocalFileBackend(path).append([*batch("s", 0), *batch("t", 0)])
        lines = (path / FIRST).read_bytes().splitlines(keepends=True)
        ends = [len(b"".join(lines[: n + 1])) for n in range(len(lines))]
        assert list(positions) == ends

    def test_pickle(self, path: Path) -> None:
        """A log goes to another process as its path and options."""
        log = LocalFileBackend(path, durability="power", segment_bytes=10)
        log.append(batch("s", 0))
        other = pickle.loads(pickle.dumps(log))
        assert (other.durability, other.segment_bytes) == ("power", 10)
        assert list(other.read()) == list(log.read())


class TestOpening:
    """What is refused, and how."""

    def test_newer_format(self, path: Path) -> None:
        """A log of a newer format is refused, and left as it is."""
        LocalFileBackend(path).close()
        (path / "log.json").write_text('{"format": 2}')
        with pytest.raises(LogTooNew, match=r"format 2.*Upgrade"):
            LocalFileBackend(path)
        assert (path / "log.json").read_text() == '{"format": 2}'

    @pytest.mark.parametrize("content", ["", "[]", "{}", "\x00"])
    def test_unreadable_format(self, path: Path, content: str) -> None:
        """A log that does not say its format is refused."""
        LocalFileBackend(path).close()
        (path / "log.json").write_text(content)
        with pytest.raises(LogError, match=r"log\.json does not say the format"):
            LocalFileBackend(path)

    def test_missing_format(self, path: Path) -> None:
        """Events without log.json are not taken for a new log."""
        LocalFileBackend(path).append(batch("s", 0))
        (path / "log.json").unlink()
        with pytest.raises(LogError, match=r"log\.json.*is missing"):
            LocalFileBackend(path)

    def test_path_is_a_file(self, path: Path) -> None:
        """A path that is a file is refused with the name of the backend for files."""
        path.write_text("something else")
        with pytest.raises(LogError, match=r"is a file.*SQLiteBackend") as refused:
            LocalFileBackend(path)
        assert not isinstance(refused.value, LogUnavailable)
        assert path.read_text() == "something else"

    def test_path_can_not_be_made(self, tmp_path: Path) -> None:
        """A folder that can't be made is a log that is unavailable; OSError catches it too."""
        (tmp_path / "file").touch()
        with pytest.raises(LogUnavailable, match=r"file/log: Not a directory"):
            LocalFileBackend(tmp_path / "file" / "log")
        with pytest.raises(OSError, match="Not a directory"):
            LocalFileBackend(tmp_path / "file" / "log")

    def test_options(self, path: Path) -> None:
        """An option that makes no sense is refused by name."""
        with pytest.raises(ValueError, match=r"durability.*'disk'"):
            LocalFileBackend(path, durability="disk")  # type: ignore[arg-type] # on purpose
        with pytest.raises(ValueError, match=r"segment_bytes.*0"):
            LocalFileBackend(path, segment_bytes=0)

    def test_closed(self, path: Path) -> None:
        """An append to a log that was closed says so."""
        log = LocalFileBackend(path)
        log.close()
        with pytest.raises(LogUnavailable, match="has been closed"):
            log.append(batch("s", 0))

    def test_read_only(self, path: Path) -> None:
        """A log that can't be locked can still be read, and comes back when it can."""
        LocalFileBackend(path).append(batch("s", 0))
        for file in (path / "locks").iterdir():
            file.unlink()
        (path / "locks").rmdir()
        (path / "locks").touch()
        log = LocalFileBackend(path)
        assert len(list(log.read())) == 3
        with pytest.raises(LogUnavailable, match="exists"):
            log.append(batch("s", 1))
        (path / "locks").unlink()
        log.append(batch("s", 1))
        assert len(list(log.read())) == 6

    def test_deleted_while_open(self, path: Path) -> None:
        """Nothing is written to a file that was deleted meanwhile."""
        log = LocalFileBackend(path)
        log.append(batch("s", 0))
        (path / FIRST).unlink()
        with pytest.raises(LogUnavailable, match="was deleted"):
            log.append(batch("s", 1))


class TestTornTail:
    """What a process leaves that dies in the middle of a write."""

    def test_every_byte(self, path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """Wherever a write was cut short, readers see what was whole, and the next append moves the
        rest aside and says how much; an append that lacks its last newline alone is whole."""
        log = LocalFileBackend(path)
        whole = log.append(batch("s", 0))[-1]
        size = log.append(batch("t", 0, 2))[-1]
        content = (path / FIRST).read_bytes()
        log.close()
        for cut in range(whole, size - 1):
            (path / FIRST).write_bytes(content[:cut])
            noted(path, whole)
            caplog.clear()
            log = LocalFileBackend(path)
            assert log.head() == whole
            assert without_positions(log.read()) == batch("s", 0)
            position = log.append([event("u", 1)])[0]
            assert without_positions(log.read()) == [*batch("s", 0), event("u", 1)]
            assert log.head() == position == (path / FIRST).stat().st_size
            log.close()
            told = [record.getMessage() for record in caplog.records]
            assert [record.name for record in caplog.records] == ["lllm.store"] * (cut > whole)
            assert all(f"{path / FIRST}: moved {cut - whole} bytes" in text for text in told)
            assert all(f"behind offset {whole}" in text for text in told)

    def test_first_append(self, path: Path) -> None:
        """A log whose very first append was cut short is empty."""
        log = LocalFileBackend(path)
        log.append(batch("s", 0))
        content = (path / FIRST).read_bytes()
        (path / FIRST).write_bytes(content[:-2])
        assert log.head() == 0
        assert list(log.read()) == []
        log.append(batch("s", 0))
        assert (path / FIRST).read_bytes() == content

    def test_ten_rounds_of_garbage(self, path: Path) -> None:
        """Whatever a crash adds to the end, ten times, nothing that was appended is lost."""
        chance = random.Random(7)
        log = LocalFileBackend(path)
        for number in range(10):
            log.append(batch("s", number))
            line = (path / FIRST).read_bytes().splitlines(keepends=True)[0]
            garbage = chance.choice(
                [
                    b"\0" * chance.randrange(1, 5_000),
                    line,  # the first of three
                    line[: chance.randrange(1, len(line))],
                    line[: chance.randrange(1, len(line))] + bytes(chance.randrange(1, 5_000)),
                ]
            )
            with (path / FIRST).open("ab") as file:
                file.write(garbage)
            whole = [one for n in range(number + 1) for one in batch("s", n)]
            assert without_positions(log.read(stream="s")) == whole
            other = LocalFileBackend(path)
            other.append([event(f"t{number}", 1)])
            other.close()
        found = without_positions(log.read())
        assert found == [one for n in range(10) for one in [*batch("s", n), event(f"t{n}", 1)]]

    def test_long_tail(self, path: Path) -> None:
        """The last whole append is found behind a cut write of any length."""
        log = LocalFileBackend(path)
        log.append(batch("s", 0))
        with (path / FIRST).open("ab") as file:
            file.write(torn_line(3_000_000))
        assert without_positions(log.read()) == batch("s", 0)
        log.append(batch("s", 1))
        assert without_positions(log.read()) == batch("s", 0) + batch("s", 1)

    @pytest.mark.parametrize("length", range(16_384 - 14, 16_384 + 4))
    def test_tail_of_any_length(self, path: Path, length: int) -> None:
        """Nor does it matter where the steps of the search for it meet."""
        log = LocalFileBackend(path)
        head = log.append(batch("s", 0))[-1]
        with (path / FIRST).open("ab") as file:
            file.write(bytes(length))
        assert log.head() == head

    def test_never_cuts_a_whole_append(self, path: Path) -> None:
        """Garbage with a whole append behind it is damage, not a tail: it stays, and so does the
        append."""
        log = LocalFileBackend(path)
        log.append(batch("a", 0))
        log.append(batch("b", 0))
        content = (path / FIRST).read_bytes()
        middle = len(content) // 2
        (path / FIRST).write_bytes(content[:middle] + b"garbage\n" + content[middle:] + b'{"str')
        log.append(batch("c", 0))
        found, damages = salvage(log)
        assert found == batch("a", 0) + batch("b", 0) + batch("c", 0)
        assert len(damages) == 1

    def test_full_disk(self, path: Path) -> None:
        """An append that does not fit stores nothing, says so, and can be tried again."""
        code = """
import resource, sys
from lllm.events.errors import LogUnavailable
from lllm.events.backends.jsonl.backend import LocalFileBackend
from lllm.testing.writers import batch, without_positions
log = LocalFileBackend(sys.argv[1])
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
size = log.append(batch("s", 0))[-1]
for more in (0, 1, 100, 400):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + more, most))
    try:
        log.append(batch("s", 1))
    except LogUnavailable as error:
        assert "File too large" in str(error), error
    else:
        raise AssertionError("nothing was raised")
    assert log.head() == size == (log.path / ("0" * 20 + ".jsonl")).stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
log.append(batch("s", 1))
log.append(batch("s", 1))
assert without_positions(log.read()) == batch("s", 0) + batch("s", 1)
"""
        subprocess.run([sys.executable, "-c", code, str(path)], check=True)

    def test_interrupt(self, path: Path) -> None:
        """An append that is interrupted when all is written, before anyone has noted it, is stored
        once when it is tried again."""
        log = LocalFileBackend(path)
        log.append(batch("s", 0))

        def interrupt(_frame: FrameType, what: str, function: object) -> None:
            if what == "c_return" and getattr(function, "__name__", "") == "write":
                sys.setprofile(None)
                raise KeyboardInterrupt

        sys.setprofile(interrupt)
        with pytest.raises(KeyboardInterrupt):
            log.append(batch("s", 1))
        positions = log.append(batch("s", 1))
        assert without_positions(log.read()) == batch("s", 0) + batch("s", 1)
        assert positions[-1] == log.head()

    def test_readers_meanwhile(self, path: Path) -> None:
        """While tails are torn and cut off again, a reader sees whole appends only, and each
        once."""
        log = LocalFileBackend(path, segment_bytes=20_000)
        lock = FileLock(path / "locks" / "write.lock")

        def tear_and_append() -> None:
            for number in range(200):
                log.append(batch("s", number))
                lock.acquire()
                with files_of(path)[-1].open("ab") as file:
                    file.write(torn_line(number * 97 % 5_000))
                lock.release()

        log.append([event("first", 1)])
        writer = threading.Thread(target=tear_and_append)
        writer.start()
        seen = list(log.read())
        while writer.is_alive():
            seen += log.read(after=seen[-1].position)
            assert (len(seen) - 1) % 3 == 0
        seen += log.read(after=seen[-1].position)
        writer.join()
        lock.close()
        assert seen == list(log.read())
        assert without_positions(seen[1:]) == [one for n in range(200) for one in batch("s", n)]

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(
            st.one_of(
                st.tuples(st.just("append"), st.integers(0, 2), st.integers(1, 4)),
                st.tuples(st.just("tear"), st.integers(1, 600), st.just(0)),
                st.tuples(st.just("reopen"), st.integers(1, 2_000), st.just(0)),
            ),
            max_size=25,
        )
    )
    def test_like_memory(self, steps: list[tuple[str, int, int]]) -> None:
        """After any appends, torn writes and openings with segments of any size, the log holds
        what the log in memory holds."""
        reference = MemoryBackend()
        counts = [0, 0, 0]
        line = torn_line(500)
        with tempfile.TemporaryDirectory() as folder:
            log = LocalFileBackend(folder)
            before = ""
            for step, number, size in steps:
                if step == "append":
                    first = counts[number]
                    counts[number] += size
                    events = [event(f"s{number}", first + n + 1) for n in range(size)]
                    assert len(reference.append(events)) == len(log.append(events))
                elif step == "tear" and before != "tear" and files_of(Path(folder)):
                    with files_of(Path(folder))[-1].open("ab") as file:
                        file.write(line[:number])
                elif step == "reopen":
                    log.close()
                    log = LocalFileBackend(folder, segment_bytes=number)
                if step != "reopen":  # nobody writes behind a torn tail
                    before = step
                assert without_positions(log.read()) == without_positions(reference.read())
            log.close()


class TestSegments:
    """Many files, one log."""

    def test_names(self, path: Path) -> None:
        """A segment is named after the position that it begins at, begins with an append and holds
        each of its appends wholly; one that is full is followed by another."""
        log = LocalFileBackend(path, segment_bytes=1_500)
        ends = [log.append(batch("s", number))[-1] for number in range(20)]
        files = files_of(path)
        begins = [int(file.stem) for file in files]
        assert len(files) > 5
        assert set(begins) <= {0, *ends}
        sizes = [file.stat().st_size for file in files]
        assert [begin + size for begin, size in zip(begins, sizes, strict=True)] == [
            *begins[1:],
            ends[-1],
        ]
        assert all(1_500 <= size < 3_000 for size in sizes[:-1])

    def test_read_from_anywhere(self, path: Path) -> None:
        """A read may begin and end in any segment."""
        log = LocalFileBackend(path, segment_bytes=1_000)
        for number in range(8):
            log.append(batch("s", number))
        events = list(log.read())
        for after in range(0, log.head(), 97):
            upto = after + 2_000
            assert list(log.read(after=after, upto=upto)) == [
                one for one in events if after < one.position <= upto
            ]

    def test_larger_than_a_segment(self, path: Path) -> None:
        """An append that is larger than a segment stands in one file all the same."""
        log = LocalFileBackend(path, segment_bytes=100)
        log.append(batch("s", 0, 50))
        log.append(batch("t", 0))
        assert [len(file.read_bytes().splitlines()) for file in files_of(path)] == [50, 3]

    def test_openings_of_different_mind(self, path: Path) -> None:
        """Processes that want segments of different sizes write the same log."""
        logs = [LocalFileBackend(path, segment_bytes=size) for size in (300, 5_000, 1 << 20)]
        for number in range(30):
            for index, log in enumerate(logs):
                log.append(batch(f"s{index}", number))
        found, damages = salvage(logs[0])
        assert damages == []
        for index in range(3):
            mine = [one for one in found if one.stream == f"s{index}"]
            assert mine == [one for n in range(30) for one in batch(f"s{index}", n)]

    def test_crash_behind_a_new_segment(self, path: Path) -> None:
        """A segment that was begun and never written to is an empty one."""
        log = LocalFileBackend(path, segment_bytes=100)
        head = log.append(batch("s", 0))[-1]
        (path / f"{head:020}.jsonl").touch()
        assert log.head() == head
        assert len(list(log.read())) == 3
        log.append(batch("s", 1))
        other = LocalFileBackend(path)
        other.append(batch("t", 0))
        assert without_positions(log.read()) == [*batch("s", 0), *batch("s", 1), *batch("t", 0)]


Damage = Callable[[bytes, int], bytes]


def flip(content: bytes, line: int) -> bytes:
    """One bit of a line's JSON is another."""
    lines = content.splitlines(keepends=True)
    lines[line] = lines[line].replace(b'"time":', b'"tima":')
    return b"".join(lines)


def unquote(content: bytes, line: int) -> bytes:
    """A line is no JSON any more, though it begins and ends like one."""
    lines = content.splitlines(keepends=True)
    lines[line] = lines[line].replace(b'"digest":"', b'"digest": ')
    return b"".join(lines)


def unmore(content: bytes, line: int) -> bytes:
    """A line does not say how many follow it."""
    lines = content.splitlines(keepends=True)
    lines[line] = lines[line].replace(b'"more":', b'"mare":')
    return b"".join(lines)


def blank(content: bytes, line: int) -> bytes:
    """A line is zeros, as a disk may leave them."""
    lines = content.splitlines(keepends=True)
    lines[line] = b"\0" * (len(lines[line]) - 1) + b"\n"
    return b"".join(lines)


def behead(content: bytes, line: int) -> bytes:
    """A line has lost its first bytes."""
    lines = content.splitlines(keepends=True)
    lines[line] = lines[line][30:]
    return b"".join(lines)


def cut_end(content: bytes, line: int) -> bytes:
    """A line has lost its last bytes, its newline among them."""
    lines = content.splitlines(keepends=True)
    lines[line] = lines[line][:-30]
    return b"".join(lines)


class TestDamage:
    """What is stored is not what was written."""

    @pytest.mark.slow
    @pytest.mark.parametrize("segment_bytes", [1_000, 1 << 20])
    @pytest.mark.parametrize(
        ("damage", "line"),
        [*product([flip, unquote], range(3)), *product([blank, unmore], range(1, 3))],
    )
    def test_in_the_middle(self, path: Path, damage: Damage, line: int, segment_bytes: int) -> None:
        """A broken line makes its append an error that names file, position and stream; all other
        appends can be read, before it and after `error.position`."""
        log = LocalFileBackend(path, segment_bytes=segment_bytes)
        for name in "abcd":
            positions = log.append(batch(name, 0))
            log.append(batch(name, 1))
            if name == "a":
                end = log.append(batch("broken", 0))[-1]
        file = next(file for file in files_of(path) if b"broken" in file.read_bytes())
        content = file.read_bytes()
        first = content[: content.index(b'{"stream":"broken"')].count(b"\n")
        file.write_bytes(damage(content, first + line))
        found, damages = salvage(log)
        assert found == [one for name in "abcd" for n in range(2) for one in batch(name, n)]
        (met,) = damages
        assert met.position == end < positions[-1]
        assert met.stream == "broken"
        assert str(file) in str(met)
        assert str(end) in str(met)

    def test_first_line(self, path: Path) -> None:
        """Where an append's first line says nothing any more, its other events can be read."""
        log = LocalFileBackend(path)
        for name in "abc":
            log.append(batch(name, 0))
        (path / FIRST).write_bytes(blank((path / FIRST).read_bytes(), 3))
        found, damages = salvage(log)
        assert found == [*batch("a", 0), *batch("b", 0)[1:], *batch("c", 0)]
        assert [met.stream for met in damages] == [""]

    @pytest.mark.parametrize("damage", [behead, cut_end])
    def test_bytes_taken_out(self, path: Path, damage: Damage) -> None:
        """Where bytes of a line are lost, in a file that others follow, every append that is whole
        can still be read."""
        log = LocalFileBackend(path, segment_bytes=2_000)
        for number in range(12):
            log.append(batch(f"s{number}", 0))
        file = files_of(path)[1]
        names = {json.loads(line)["stream"] for line in file.read_bytes().splitlines()}
        file.write_bytes(damage(file.read_bytes(), 4))
        found, damages = salvage(log)
        lost = {f"s{n}" for n in range(12)} - {one.stream for one in found}
        assert len(lost) in (1, 2)
        assert lost < names
        assert found == [
            one for n in range(12) for one in batch(f"s{n}", 0) if one.stream not in lost
        ]
        assert all(str(file) in str(met) for met in damages)
        assert "missing" in str(damages[-1])

    def test_line_taken_out(self, path: Path) -> None:
        """What is left of an append that has lost a line is not handed out as if it were whole."""
        log = LocalFileBackend(path)
        for name in "abc":
            log.append(batch(name, 0))
        lines = (path / FIRST).read_bytes().splitlines(keepends=True)
        (path / FIRST).write_bytes(b"".join(lines[:4] + lines[5:]))
        found, damages = salvage(LocalFileBackend(path))
        assert [one.stream for one in found][:3] == ["a"] * 3
        assert [one.stream for one in found][-3:] == ["c"] * 3
        assert damages[0].stream == "b"
        assert "missing" in str(damages[0])

    def test_segment_taken_out(self, path: Path) -> None:
        """A missing file is an error that says which positions are missing, from wherever the read
        begins before it, and not behind it."""
        log = LocalFileBackend(path, segment_bytes=1_000)
        for number in range(9):
            log.append(batch("s", number))
        files = files_of(path)
        for missing in (0, 2):
            files[missing].rename(path / "aside")
            begin, end = int(files[missing].stem), int(files[missing + 1].stem)
            with pytest.raises(LogDamaged, match=f"from position {begin} to {end} are missing"):
                list(log.read(after=begin))
            found, damages = salvage(log)
            assert [met.position for met in damages] == [end]
            assert len(found) == 27 - len((path / "aside").read_bytes().splitlines())
            (path / "aside").rename(files[missing])
        assert salvage(log)[1] == []

    def test_bytes_behind_a_full_segment(self, path: Path) -> None:
        """Bytes that were added to a file that others follow are an error, and nothing is lost."""
        log = LocalFileBackend(path, segment_bytes=1_000)
        for number in range(6):
            log.append(batch("s", number))
        with files_of(path)[0].open("ab") as file:
            file.write(b"garbage")
        found, damages = salvage(log)
        assert len(found) == 18
        assert "7 bytes follow its end" in str(damages[0])

    def test_of_another_stream(self, path: Path) -> None:
        """The reader of one stream does not stumble over what is broken in another, unless nobody
        can tell whose it is."""
        log = LocalFileBackend(path)
        for name in "abc":
            log.append(batch(name, 0))
        content = (path / FIRST).read_bytes()
        for damage in (flip, unmore):
            (path / FIRST).write_bytes(damage(content, 4))
            assert without_positions(log.read(stream="c")) == batch("c", 0)
            with pytest.raises(LogDamaged) as met:
                list(log.read(stream="b"))
            assert met.value.stream == "b"
        (path / FIRST).write_bytes(blank(content, 4))
        with pytest.raises(LogDamaged):
            list(log.read(stream="c"))

    def test_by_type(self, path: Path) -> None:
        """The reader of some types is told of appends that nobody can read."""
        log = LocalFileBackend(path)
        for name in "abc":
            log.append(batch(name, 0))
        (path / FIRST).write_bytes(blank((path / FIRST).read_bytes(), 4))
        with pytest.raises(LogDamaged):
            list(log.read_types(["another"]))

    def test_appends_go_on(self, path: Path) -> None:
        """Damage in the middle does not keep anyone from appending, and what is known is still
        not stored twice."""
        log = LocalFileBackend(path)
        for name in "abc":
            log.append(batch(name, 0))
        (path / FIRST).write_bytes(blank((path / FIRST).read_bytes(), 4))
        other = LocalFileBackend(path)
        other.append(batch("d", 0))
        positions = other.append(batch("c", 0))
        assert positions == [one.position for one in log.read(stream="c", after=log.head() // 2)]


class TestWaiting:
    """Appending where others write."""

    def test_without_waiting(self, path: Path) -> None:
        """Where somebody else holds the lock, an append that must not wait returns None, and has
        stored nothing."""
        log = LocalFileBackend(path)
        lock = FileLock(path / "locks" / "write.lock")
        lock.acquire()
        assert log.try_append(batch("s", 0)) is None
        assert files_of(path) == []
        lock.close()
        assert log.try_append(batch("s", 0)) is not None

    def test_much_to_read(self, path: Path) -> None:
        """Where others have written much, an append of a new stream that must not wait returns
        None; one that may, reads it first, and knows every stream in it."""
        log = LocalFileBackend(path)
        other = apart(lambda: LocalFileBackend(path))
        log.append(batch("mine", 0))
        other.append([event("large", 1, b'"%01500000d"' % 0)])
        other.append(batch("theirs", 0))
        assert log.try_append(batch("theirs", 0)) is None
        assert log.try_append(batch("mine", 1)) is not None
        theirs = [one.position for one in log.read(stream="theirs")]
        assert log.append(batch("theirs", 0)) == theirs
        assert log.try_append(batch("theirs", 1)) is not None
