"""Whatever becomes of the files of a JSONL log, no acknowledged event's bytes vanish from its
folder, nobody writes behind damage, and a check says that there is some."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from lllm import LogStore
from lllm.cli.program import main
from lllm.events.backends.jsonl import read_events
from lllm.events.backends.jsonl import torn_tail as torn
from lllm.events.backends.jsonl.backend import LocalFileBackend
from lllm.events.backends.jsonl.complete_end import end_of
from lllm.events.backends.jsonl.lost_end import noted_in
from lllm.events.backends.jsonl.segments import segments_of
from lllm.events.backends.sqlite.backend import SQLiteBackend
from lllm.events.concurrency.locks import FileLock
from lllm.events.envelope import NewEvent
from lllm.events.errors import LogDamaged
from lllm.events.integrity.verify import verify
from lllm.testing.writers import batch, event, without_positions
from tests.support.echo import echo

Corrupt = Callable[[bytes], bytes]


def by_line(change: Callable[[bytes], bytes]) -> Corrupt:
    """What `sed` or `jq` make of every line."""
    return lambda content: b"".join(change(line) + b"\n" for line in content.split(b"\n")[:-1])


def sorted_json(line: bytes) -> bytes:
    """The fields in another order, also within a payload."""
    return json.dumps(json.loads(line), sort_keys=True, separators=(",", ":")).encode()


def in_the_last_line(change: Callable[[bytes], bytes]) -> Corrupt:
    """A change of the last line alone."""

    def corrupt(content: bytes) -> bytes:
        begin = content[:-1].rfind(b"\n") + 1
        return content[:begin] + change(content[begin:])

    return corrupt


def zeros_from(part: float) -> Corrupt:
    """Zeros from some place to the end."""
    return lambda content: content[: int(len(content) * part)].ljust(len(content), b"\0")


# What can be put back as it was.
MENDABLE: dict[str, Corrupt] = {
    "crlf": by_line(lambda line: line + b"\r"),
    "spaces at the end": by_line(lambda line: line + b"  "),
    "respaced": by_line(lambda line: json.dumps(json.loads(line)).encode()),
    "sorted": by_line(sorted_json),
    "upper-case digests": by_line(
        lambda line: line.replace((found := line.split(b'"digest":"')[1][:64]), found.upper())
    ),
    "utf-16": lambda content: content.decode().encode("utf-16"),
    "utf-16 without a mark": lambda content: content.decode().encode("utf-16-le"),
    "utf-8 with a mark": by_line(lambda line: b"\xef\xbb\xbf" + line),
    "gzip": gzip.compress,
}
# So that its last line is one: damage inside, behind which the log goes on.
MENDABLE_INSIDE: dict[str, Corrupt] = {
    "empty lines": by_line(lambda line: line + b"\n"),
    "the first half in crlf": lambda content: (
        content[: (middle := content.index(b"\n", len(content) // 2))].replace(b"\n", b"\r\n")
        + content[middle:]
    ),
    "the first digest": lambda content: content.replace(
        (found := content.split(b'"digest":"')[1][:64]), found.upper()
    ),
}
# What has lost something.
LOSING: dict[str, Corrupt] = {
    "garbage": lambda content: bytes(range(1, 256)) * (len(content) // 255),
    "foreign text": lambda content: content + b"a note of mine\n",
    "foreign JSON": lambda content: content + b'{"level":"info","msg":"hello"}\n',
    "garbage behind": lambda content: content + bytes(range(256)),
    "line feeds behind": lambda content: content + b"\n\n",
    "zeros, then text": lambda content: content + bytes(100) + b"text",
    "last line shuffled": in_the_last_line(lambda line: bytes(sorted(line[:-1])) + b"\n"),
    "last line cut in front": in_the_last_line(lambda line: line[20:]),
    "last line with zeros inside": in_the_last_line(
        lambda line: line[:60] + bytes(60) + line[120:]
    ),
    "last line without its type": in_the_last_line(lambda line: line.replace(b'"type"', b'"tipe"')),
}
# The beginning of an append, zeros, or both, as a crash leaves them.
TORN: dict[str, Corrupt] = {
    "last line cut": in_the_last_line(lambda line: line[: len(line) // 2]),
    "40 % zeros": zeros_from(0.6),
    "all zeros": zeros_from(0),
    "zeros behind": lambda content: content + bytes(5_000),
    "a beginning behind": lambda content: content + content[:70],
    "a beginning and zeros behind": lambda content: content + content[:200] + bytes(999),
}
UNENDED: dict[str, Corrupt] = {
    "no last newline": lambda content: content[:-1],
    "a zero for the last newline": lambda content: content[:-1] + b"\0",
    "zeros from the last newline on": lambda content: content[:-1] + bytes(700),
}
_QUICK = ("utf-16", "the first half in crlf", "line feeds behind", "last line shuffled")


def _mostly_slow(names: Iterable[str]) -> list[ParameterSet]:
    """Names of damages, of which a few are tried in every run."""
    return [pytest.param(name, marks=() if name in _QUICK else pytest.mark.slow) for name in names]


@pytest.fixture(params=["one file", "many files"])
def written(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, list[NewEvent]]:
    """A log of sessions, and the events that were acknowledged."""
    path = tmp_path / "logs"
    log = LocalFileBackend(path, segment_bytes=4_000 if request.param == "many files" else 1 << 20)
    with LogStore(log) as store:
        for number in range(4):
            echo(store)(f"task {number}", tags={"n": str(number)})
    with closing(LocalFileBackend(path)) as log:
        return path, without_positions(log.read())


def last_of(path: Path) -> Path:
    """The file that appends go to."""
    return segments_of(path)[-1].path


def every_byte(path: Path) -> bytes:
    """All that stands in a log's folder, for a search of bytes."""
    return b"\xff".join(file.read_bytes() for file in sorted(path.iterdir()) if file.is_file())


def events_of(path: Path) -> list[NewEvent]:
    """What a reader gets."""
    with closing(LocalFileBackend(path, read_only=True)) as log:
        return without_positions(log.read())


@pytest.mark.slow
def test_damage_is_never_written_behind(
    written: tuple[Path, list[NewEvent]], caplog: pytest.LogCaptureFixture
) -> None:
    """Damage at the end refuses an append with file and offset; nothing changes in the folder,
    whoever reads is told, what is before it can be read, and `verify` exits with 1."""
    path, events = written
    content = last_of(path).read_bytes()
    for name, corrupt in (MENDABLE | LOSING).items():
        last_of(path).write_bytes(corrupt(content))
        before = every_byte(path)
        with closing(LocalFileBackend(path)) as log:
            for _ in range(2):
                with pytest.raises(LogDamaged, match=r"jsonl is damaged from byte \d+ on.*repair"):
                    log.append(batch("s", 0))
        assert every_byte(path) == before, name
        caplog.clear()
        found = events_of(path)
        assert found == events[: len(found)], name
        assert "is damaged from byte" in caplog.text, name
        assert main(["verify", "--store", str(path)]) == 1, name


def test_events_wait_where_the_log_is_damaged(written: tuple[Path, list[NewEvent]]) -> None:
    """A store goes on: one warning names the damage, events wait in memory, and are written once
    the log is repaired."""
    path, events = written
    last_of(path).write_bytes(MENDABLE["crlf"](last_of(path).read_bytes()))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with LogStore(LocalFileBackend(path)) as store:
            assert echo(store)("a") == echo(store)("a")
            assert len([one for one in told if "damaged from byte" in str(one.message)]) == 1
            assert store.log.held  # type: ignore[attr-defined] # a BufferedLog
            assert main(["repair", "--store", str(path)]) == 0
    found = events_of(path)
    assert found[: len(events)] == events
    assert len(found) > len(events)
    assert main(["verify", "--store", str(path)]) == 0


@pytest.mark.parametrize("name", _mostly_slow(MENDABLE | MENDABLE_INSIDE))
def test_repair_puts_back(
    written: tuple[Path, list[NewEvent]], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a tool made of the lines is put back to the byte, in every file, with copies kept."""
    path, events = written
    originals = {segment.path: segment.path.read_bytes() for segment in segments_of(path)}
    for file, content in originals.items():
        file.write_bytes((MENDABLE | MENDABLE_INSIDE)[name](content))
    changed = [file.read_bytes() for file in originals]
    assert main(["repair", "--store", str(path)]) == 0
    assert {file: file.read_bytes() for file in originals} == originals
    copies = [file.read_bytes() for file in path.glob("*.damaged")]
    for content, original in zip(changed, originals.values(), strict=True):
        assert content in copies or content == original
    assert "kept as it was" in capsys.readouterr().out
    assert events_of(path) == events
    assert noted_in(path / "locks" / "write.lock") == end_of(path).position
    assert main(["verify", "--store", str(path)]) == 0
    assert main(["rebuild", "--check", "--store", str(path)]) == 0
    assert main(["repair", "--store", str(path)]) == 0
    assert "nothing to repair" in capsys.readouterr().out
    with closing(LocalFileBackend(path)) as log:
        log.append(batch("s", 0))


@pytest.mark.parametrize("name", _mostly_slow(LOSING))
def test_repair_says_what_is_lost(
    written: tuple[Path, list[NewEvent]], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What no event can be made of is left out of the log, said with exit code 1, and kept."""
    path, events = written
    changed = LOSING[name](last_of(path).read_bytes())
    last_of(path).write_bytes(changed)
    lines = main(["repair", "--store", str(path)])
    assert lines == (0 if name == "line feeds behind" else 1)
    assert changed in [file.read_bytes() for file in path.glob("*.damaged")]
    found = events_of(path)
    assert found == events[: len(found)]
    assert len(found) >= len(events) - 1 or name == "garbage"
    assert noted_in(path / "locks" / "write.lock") == end_of(path).position
    with closing(LocalFileBackend(path)) as log:
        log.append(batch("s", 0))
    assert events_of(path) == found + batch("s", 0)
    assert "kept as it was" in capsys.readouterr().out


@pytest.mark.parametrize("name", TORN)
def test_torn_tails_are_moved_aside(
    written: tuple[Path, list[NewEvent]], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a crash leaves is moved into a file to the byte, writing goes on, and `verify` exits
    with 1 until somebody has removed the file."""
    path, events = written
    content = TORN[name](last_of(path).read_bytes())
    last_of(path).write_bytes(content)
    assert main(["verify", "--store", str(path)]) == 1
    assert "never acknowledged" not in capsys.readouterr().out
    kept = events_of(path)
    assert kept == events[: len(kept)]
    with closing(LocalFileBackend(path)) as log:
        log.append(batch("s", 0))
    assert events_of(path) == kept + batch("s", 0)
    (aside,) = torn.files_set_aside(path)
    assert content.endswith(aside.read_bytes())
    assert content[: len(content) - aside.stat().st_size] in every_byte(path)
    assert main(["verify", "--store", str(path)]) == 1
    assert aside.name in capsys.readouterr().out
    aside.unlink()
    main(["verify", "--store", str(path)])
    assert aside.name not in capsys.readouterr().out


@pytest.mark.parametrize("name", UNENDED)
def test_a_missing_newline_costs_no_event(written: tuple[Path, list[NewEvent]], name: str) -> None:
    """A whole append without its last newline is an append; the newline is added."""
    path, events = written
    last_of(path).write_bytes(UNENDED[name](last_of(path).read_bytes()))
    assert main(["verify", "--store", str(path)]) == 1
    with closing(LocalFileBackend(path)) as log:
        log.append(batch("s", 0))
        log.append(events[-1:])  # written again by who was not told: it is there once
    assert events_of(path) == events + batch("s", 0)


def test_who_only_reads_misses_no_event_for_a_newline(
    written: tuple[Path, list[NewEvent]],
) -> None:
    """It was acknowledged, so it is read, under the position that it has once the newline is
    there; while somebody writes, it may be half of an append that is just coming."""
    path, _ = written
    file = last_of(path)
    whole = file.read_bytes()
    with closing(LocalFileBackend(path, read_only=True)) as log:
        before = list(log.read())
        head = log.head()
        file.write_bytes(whole[:-1])
        assert log.head() == head
        assert list(log.read()) == before
        assert list(log.read(after=before[-2].position)) == before[-1:]
        assert list(log.read(stream=before[-1].stream))[-1] == before[-1]
        assert list(log.read_types([before[-1].type]))[-1] == before[-1]
        lock = FileLock(path / "locks" / "write.lock")
        lock.acquire()
        assert log.head() < head
        lock.close()
        file.write_bytes(whole[:-2])
        assert list(log.read()) == before[: len(list(log.read()))] != before
    assert file.read_bytes() == whole[:-2]


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3])
def test_every_cut(tmp_path: Path, count: int) -> None:
    """Wherever the last append was cut, with zeros behind or not, the events before it stay, its
    bytes are kept, and it can be written again."""
    path = tmp_path / "logs"
    with closing(LocalFileBackend(path)) as log:
        whole = log.append(batch("s", 0))[-1]
        size = log.append(batch('ä\\"', 0, count))[-1]
    content = last_of(path).read_bytes()
    for cut in range(whole + 1, size):
        for zeros in (0, 300):
            for file in path.glob("*.torn"):
                file.unlink()
            last_of(path).write_bytes(content[:cut] + bytes(zeros))
            with closing(LocalFileBackend(path)) as log:
                log.append(batch('ä\\"', 0, count))
                assert without_positions(log.read()) == batch("s", 0) + batch('ä\\"', 0, count)
            kept = b"".join(file.read_bytes() for file in path.glob("*.torn"))
            ended = cut == size - 1
            assert kept == (bytes(zeros) if ended else content[whole:cut] + bytes(zeros))


class TestStepsOfMovingAside:
    """What a crash leaves between two steps of moving a torn tail aside."""

    def test_each(self, tmp_path: Path) -> None:
        """The tail is in the folder after each step, and one file has it in the end."""
        path = tmp_path / "logs"
        with closing(LocalFileBackend(path)) as log:
            log.append(batch("s", 0))
        whole = last_of(path).read_bytes()
        tail = whole[:90]
        last_of(path).write_bytes(whole + tail)
        pristine = tmp_path / "pristine"
        shutil.copytree(path, pristine)
        with closing(LocalFileBackend(path)) as log:
            log.append(batch("t", 0))
        (aside,) = torn.files_set_aside(path)
        for step in ("draft begun", "draft whole", "file in place"):
            shutil.rmtree(path)
            shutil.copytree(pristine, path)
            name = aside.name if step == "file in place" else f"{aside.name}.new"
            (path / name).write_bytes(tail[:10] if step == "draft begun" else tail)
            with closing(LocalFileBackend(path)) as log:
                log.append(batch("t", 0))
                assert without_positions(log.read()) == batch("s", 0) + batch("t", 0)
            assert [file.read_bytes() for file in torn.files_set_aside(path)] == [tail]
            assert list(path.glob("*.new")) == []

    def test_a_full_disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where the file can't be made, the tail stays where it is."""
        path = tmp_path / "logs"
        with closing(LocalFileBackend(path)) as log:
            log.append(batch("s", 0))
        with last_of(path).open("ab") as file:
            file.write(last_of(path).read_bytes()[:90])
        content = last_of(path).read_bytes()

        def full(_: object) -> None:
            raise OSError(28, "No space left on device")

        with closing(LocalFileBackend(path)) as log:
            with monkeypatch.context() as patched:
                patched.setattr(torn, "sync", full)
                with pytest.raises(OSError, match="No space"):
                    log.append(batch("t", 0))
            assert last_of(path).read_bytes() == content
            log.append(batch("t", 0))


class TestStepsOfRepair:
    """What a crash leaves between two steps of a repair."""

    @pytest.mark.parametrize("stop", [1, 2])
    def test_each(
        self, written: tuple[Path, list[NewEvent]], monkeypatch: pytest.MonkeyPatch, stop: int
    ) -> None:
        """The file as it was is there after each step, and the repair can be done again."""
        from lllm.events.backends.jsonl import repair

        path, events = written
        changed = MENDABLE["sorted"](last_of(path).read_bytes())
        last_of(path).write_bytes(changed)
        calls = 0
        put = repair._put

        def dying(draft: Path, place: Path, mode: int) -> None:
            nonlocal calls
            calls += 1
            if calls == stop:
                raise KeyboardInterrupt
            put(draft, place, mode)

        with monkeypatch.context() as patched, closing(LocalFileBackend(path)) as log:
            patched.setattr(repair, "_put", dying)
            with pytest.raises(KeyboardInterrupt):
                repair.repair_folder(log)
        assert changed in [file.read_bytes() for file in path.iterdir() if file.is_file()]
        assert main(["repair", "--store", str(path)]) == 0
        assert events_of(path) == events
        assert len(list(path.glob("*.damaged"))) == 1


def test_damage_in_front_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Damage inside of a log keeps nobody from writing; `repair` says that it can't be mended."""
    path = tmp_path / "logs"
    with closing(LocalFileBackend(path, segment_bytes=1_000)) as log:
        for number in range(9):
            log.append(batch("s", number))
    files = [segment.path for segment in segments_of(path)]
    os.truncate(files[1], files[1].stat().st_size - 40)
    with closing(LocalFileBackend(path)) as log:
        log.append([event("t", 1)])
        assert verify(log).damages
    before = every_byte(path)
    assert main(["repair", "--store", str(path)]) == 1
    assert "not mended" in capsys.readouterr().out
    assert every_byte(path) == before


def test_what_is_not_covered_is_said(
    written: tuple[Path, list[NewEvent]], capsys: pytest.CaptureFixture[str]
) -> None:
    """`verify` says that the order across streams and the end of the log need a seal."""
    path, _ = written
    assert main(["verify", "--store", str(path)]) == 0
    assert "unknown without an earlier seal" in capsys.readouterr().out
    assert main(["verify", "--json", "--store", str(path)]) == 0
    assert "another order" in json.loads(capsys.readouterr().out)["not_covered"]


def test_sqlite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A whole SQLite file has nothing to repair, and is not changed."""
    path = tmp_path / "runs.db"
    with closing(SQLiteBackend(path)) as log:
        log.append(batch("s", 0))
    assert main(["repair", "--store", str(path)]) == 0
    assert "nothing to repair" in capsys.readouterr().out


def test_sessions_over_several_files_are_mended(tmp_path: Path) -> None:
    """The lines of a later file are checked by the salts in earlier ones, also in those that were
    mended just before."""
    path = tmp_path / "logs"

    def fill(store: LogStore) -> None:
        files = len(segments_of(path))
        while len(segments_of(path)) == files:
            store.save_error(ValueError("x" * 300))

    with LogStore(LocalFileBackend(path, segment_bytes=2_000)) as store:
        for _ in range(2):
            with store.session("a::script"):
                fill(store)
            fill(store)
    before = [file.path.read_bytes() for file in segments_of(path)]
    for file in segments_of(path):
        spaced = by_line(lambda line: b" " + line)
        file.path.write_bytes(spaced(file.path.read_bytes()))
    main(["repair", "--store", str(path)])
    assert [file.path.read_bytes() for file in segments_of(path)] == before


@pytest.mark.parametrize("count", [99, 100, 101])
def test_many_lines_behind_damage_belong_to_it(count: int) -> None:
    """From a hundred on, so that a file of anything is one damage and not a million."""
    lines = [(number + 10, b"anything") for number in range(count)]
    damage = read_events._with_what_follows(LogDamaged("broken.", position=9), iter(lines))
    assert damage.position == (9 if count < 100 else count + 9)
    assert (f"The {count} lines behind it" in str(damage)) == (count >= 100)
