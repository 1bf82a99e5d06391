"""Backups: whole, or not there; made beside busy writers; restored by copying."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import groupby
from pathlib import Path

import msgspec
import pytest

from lllm import LocalFileBackend, LogError, LogStore, LogUnavailable, NoOpBackend, SQLiteBackend
from lllm.events import codec
from lllm.events.backends import open_log as open_log_at
from lllm.events.backends.memory import MemoryBackend
from lllm.events.digest import check_digest
from lllm.events.envelope import Recorded
from lllm.events.integrity.backup import back_up, stopped_backups
from lllm.events.integrity.verify import verify
from lllm.events.log import LogBackend
from lllm.testing.writers import PATIENCE, event
from tests.conftest import OpenBackend

KINDS: dict[str, Callable[[Path], LogBackend]] = {
    "sqlite": SQLiteBackend,
    "jsonl": lambda path: LocalFileBackend(path, segment_bytes=1 << 20),
}

# Finishes one session after another, and says of each event when its append has returned.
WRITER = """
import sys
from pathlib import Path
from lllm import LogStore
from tests.events.integrity.test_backup import KINDS

kind, path = sys.argv[1:]
backend = KINDS[kind](Path(path))
append = backend.append

def acknowledged(events):
    positions = append(events)
    for event in events:
        print(event.stream, event.seq, flush=True)
    return positions

backend.append = acknowledged
store = LogStore(backend)
number = 0
while True:
    with store.session("tests::writer", tags={"n": str(number % 7)}, task="t" * 500) as recorder:
        recorder.deliver(number)
    number += 1
"""

# Has one session open until it is killed.
RUNNER = """
import sys, time
from pathlib import Path
from lllm import LogStore
from tests.events.integrity.test_backup import KINDS

kind, path = sys.argv[1:]
with LogStore(KINDS[kind](Path(path))).session("tests::runner") as recorder:
    print(recorder.session_id, flush=True)
    time.sleep(600)
"""

# Backs up, and stops in the middle of it for as long as it lives.
STOPPING = """
import sys, time
from pathlib import Path
from lllm.events.integrity.backup import back_up
from tests.events.integrity.test_backup import KINDS

def stop(copied, to_copy):
    print("copying", flush=True)
    time.sleep(600)

kind, path, destination = sys.argv[1:]
back_up(KINDS[kind](Path(path)), destination, progress=stop)
"""

# Backs up to a disk on which no file may grow beyond 64 KiB.
LIMITED = """
import resource, sys
from pathlib import Path
from lllm import LogUnavailable
from lllm.events.integrity.backup import back_up
from tests.events.integrity.test_backup import KINDS

kind, path, destination = sys.argv[1:]
log = KINDS[kind](Path(path))
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, resource.RLIM_INFINITY))
try:
    back_up(log, destination)
except LogUnavailable as error:
    print(error)
"""


def started(program: str, *arguments: object) -> subprocess.Popen[str]:
    """A process that runs a program."""
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )


@contextmanager
def running(program: str, *arguments: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that runs a program, and the first line that it prints; killed at the end."""
    process = started(program, *arguments)
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


class Writer:
    """A process that writes sessions, and the events that it was told are stored."""

    def __init__(self, kind: str, path: Path) -> None:
        self.acknowledged: list[tuple[str, int]] = []
        self._more = threading.Condition()
        self._process = started(WRITER, kind, path)
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.endswith("\n"):  # the last may be cut by the kill
                stream, seq = line.split()
                with self._more:
                    self.acknowledged.append((stream, int(seq)))
                    self._more.notify()

    def goes_on(self, events: int = 20) -> None:
        """Wait until so many more events are stored."""
        with self._more:
            enough = len(self.acknowledged) + events
            assert self._more.wait_for(lambda: len(self.acknowledged) >= enough, PATIENCE / 4)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._listener.join()
        assert self._process.stdout is not None
        self._process.stdout.close()


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def path(kind: str, tmp_path: Path) -> Path:
    """Where the log of a test lies."""
    return tmp_path / ("runs.db" if kind == "sqlite" else "logs")


@pytest.fixture
def log(kind: str, path: Path) -> Iterator[LogBackend]:
    """A log of some 6 MB, over several segments where it has such."""
    opened = KINDS[kind](path)
    for seq in range(1, 601):
        opened.append([event("long", seq, b'{"text":"%b"}' % (b"x" * 10_000))])
    yield opened
    opened.close()


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    folder = tmp_path / "backups"
    folder.mkdir()
    return folder / "copy"


def events_in(kind: str, path: Path) -> list[Recorded]:
    """All that stands in the log at a path."""
    with closing(KINDS[kind](path)) as log:
        return list(log.read())


def check_digests(events: Iterable[Recorded]) -> None:
    """Every event is what was written, under the salt of its stream, and none is missing."""
    by_stream = sorted(events, key=lambda one: (one.stream, one.seq))
    for _, stream in groupby(by_stream, key=lambda one: one.stream):
        salt = b""
        for number, one in enumerate(stream, 1):
            assert one.seq == number
            if number == 1:
                salt = getattr(codec.decode(one), "salt", b"")
            check_digest(one, salt)


@pytest.mark.slow
def test_a_backup_beside_busy_writers(
    kind: str, path: Path, log: LogBackend, destination: Path
) -> None:
    """While processes append at full speed a backup comes to its end, stops none of them, holds
    all that was acknowledged before it began, whole and in order, and opens as a store."""
    writers = [Writer(kind, path) for _ in range(2)]
    try:
        for writer in writers:
            writer.goes_on()
        before = {place for writer in writers for place in list(writer.acknowledged)}

        looks = []

        def look(copied: int, to_copy: int) -> None:
            assert 0 < copied <= to_copy
            looks.append(copied)
            assert looks == sorted(set(looks))  # it never begins anew
            for writer in writers:
                writer.goes_on()

        made = back_up(log, destination, progress=look)
        for writer in writers:
            writer.goes_on()
    finally:
        for writer in writers:
            writer.end()
    assert made.path == destination
    with LogStore(KINDS[kind](destination)) as copy:
        events = list(copy.log.read())
        assert made.position == events[-1].position == copy.log.head()
        assert made.position < log.head()
        assert events == list(log.read(upto=made.position))
        assert before <= {(one.stream, one.seq) for one in events}
        check_digests(events)
        assert copy.rebuild(check=True).difference is None
        assert copy.list_sessions(tags={"n": "3"}, limit=1)


def test_a_backup_by_a_reader(kind: str, path: Path, log: LogBackend, destination: Path) -> None:
    """A store that was opened to be read only is backed up, and its writers go on meanwhile."""
    reading = (SQLiteBackend if kind == "sqlite" else LocalFileBackend)(path, read_only=True)
    writer = Writer(kind, path)
    try:
        writer.goes_on()
        made = back_up(reading, destination, progress=lambda *_: writer.goes_on())
    finally:
        writer.end()
        reading.close()
    assert events_in(kind, destination) == list(log.read(upto=made.position))


def test_a_killed_backup_leaves_nothing_under_its_name(
    kind: str, path: Path, log: LogBackend, destination: Path
) -> None:
    """After kill -9 there is no destination; what there is of it is found, is in nobody's way, and
    goes with the next backup."""
    draft = destination.with_name("copy.partial")
    with running(STOPPING, kind, path, destination) as (process, said):
        assert said == "copying"
        with pytest.raises(LogUnavailable, match="under way"):
            back_up(log, destination)
        assert stopped_backups(destination.parent) == []
        process.send_signal(signal.SIGKILL)
    assert os.listdir(destination.parent) == ["copy.partial"]
    assert stopped_backups(destination.parent) == [draft]
    back_up(log, destination)
    assert os.listdir(destination.parent) == ["copy"]
    assert events_in(kind, destination) == list(log.read())


class Stop(BaseException):
    """Ctrl-C, say."""


def test_a_stopped_backup_leaves_nothing(log: LogBackend, destination: Path) -> None:
    """An exception in the middle of a backup, as of Ctrl-C, goes on to the caller; nothing is left
    of the backup."""

    def stop(*_: int) -> None:
        raise Stop

    with pytest.raises(Stop):
        back_up(log, destination, progress=stop)
    assert os.listdir(destination.parent) == []


def test_a_disk_that_fills(kind: str, path: Path, log: LogBackend, destination: Path) -> None:
    """Where the copy can't be written, one error says which and why; nothing is left of it, and
    the log goes on."""
    with running(LIMITED, kind, path, destination) as (process, said):
        assert process.wait(PATIENCE) == 0
    assert f"The backup to {destination} could not be made: " in said
    assert os.listdir(destination.parent) == []
    log.append([event("long", 601)])


def test_a_destination_that_can_not_be_written(log: LogBackend) -> None:
    """A folder that nobody can write to is said to be at fault, not the log."""
    with pytest.raises(LogUnavailable, match="The backup to /proc/copy could not be made"):
        back_up(log, "/proc/copy")


def test_a_restore_is_a_plain_copy(
    open_backend: OpenBackend, destination: Path, tmp_path: Path
) -> None:
    """A backup that is copied to another path is a store there: with the same sessions, records
    and costs, and ready to be written."""
    with LogStore(open_backend()) as store:
        for number in range(3):
            outer = store.session("tests::outer", tags={"n": str(number)}, task=number)
            with outer, store.session("tests::inner") as inner:
                inner.deliver("well")
        with pytest.raises(ZeroDivisionError), store.session("tests::fails"):
            raise ZeroDivisionError("by zero")
        back_up(store.backend, destination)
        restored = tmp_path / "elsewhere"
        if destination.is_dir():
            shutil.copytree(destination, restored)
        else:
            shutil.copy(destination, restored)
        summaries = store.list_sessions()
        opened = type(store.backend)(restored)  # type: ignore[call-arg] # both kinds take a path
        with LogStore(opened) as copy:
            assert copy.list_sessions() == summaries
            assert copy.export_cost_summary() == store.export_cost_summary()
            for one in summaries:
                there, here = (at.load_session_record(one.session_id) for at in (copy, store))
                assert there == here
            with copy.session("tests::later"):
                pass
            assert len(copy.list_sessions()) == len(summaries) + 1
            assert copy.rebuild(check=True).difference is None
        assert store.list_sessions() == summaries


def test_a_restored_log_can_be_appended_to(kind: str, log: LogBackend, destination: Path) -> None:
    """A log without a store around it, too, goes on where the backup ends, in its own mode."""
    back_up(log, destination)
    with closing(KINDS[kind](destination)) as copy:
        copy.append([event("long", 601)])
        assert [one.seq for one in copy.read(stream="long")] == list(range(1, 602))
        if isinstance(copy, SQLiteBackend):
            assert copy.database.query("PRAGMA journal_mode") == [("wal",)]


def test_running_sessions_are_not_declared_dead_in_a_copy(
    kind: str, path: Path, destination: Path
) -> None:
    """A session that ran during the backup is running in the copy, whatever becomes of its process:
    nobody there can know."""
    with running(RUNNER, kind, path) as (_, session_id), LogStore(KINDS[kind](path)) as store:
        back_up(store.backend, destination)
        assert [one.session_id for one in store.list_sessions(state="running")] == [session_id]
    with LogStore(KINDS[kind](destination)) as copy:
        assert [one.session_id for one in copy.list_sessions(state="running")] == [session_id]
    with LogStore(KINDS[kind](path)) as store:
        assert [one.session_id for one in store.list_sessions(state="interrupted")] == [session_id]
    with LogStore(KINDS[kind](destination)) as copy:
        assert [one.session_id for one in copy.list_sessions(state="running")] == [session_id]


def test_an_empty_log(kind: str, path: Path, destination: Path) -> None:
    """A log without events has a backup without events."""
    with closing(KINDS[kind](path)) as log:
        assert back_up(log, destination).position == 0
    assert events_in(kind, destination) == []


def test_a_torn_tail_is_left_out(tmp_path: Path, destination: Path) -> None:
    """Bytes behind the last whole append, which a dying process left or a living one is writing,
    are not in the backup."""
    with closing(LocalFileBackend(tmp_path / "logs")) as log:
        log.append([event("s", 1), event("s", 2)])
        segment = tmp_path / "logs" / f"{0:020}.jsonl"
        whole = segment.read_bytes()
        segment.write_bytes(whole + whole[: len(whole) // 2])
        back_up(log, destination)
    assert (destination / segment.name).read_bytes() == whole


def test_a_copy_is_as_private_as_the_original(
    kind: str, path: Path, log: LogBackend, destination: Path
) -> None:
    """Who may not read the log may not read its backup."""
    files = [path, *path.glob("*.jsonl")]
    for file in files:
        file.chmod(0o700 if file.is_dir() else 0o600)
    back_up(log, destination)
    copies = [destination, *destination.glob("*.jsonl")]
    assert len(copies) == len(files)
    assert {one.stat().st_mode & 0o077 for one in copies} == {0}
    assert kind


def test_a_backup_replaces_nothing(log: LogBackend, destination: Path) -> None:
    """A destination that is taken is refused and left as it is; a folder is told where to go."""
    destination.write_text("precious")
    with pytest.raises(LogError, match="exists, and a backup never overwrites"):
        back_up(log, destination)
    assert destination.read_text() == "precious"
    with pytest.raises(LogError, match=r"Name a path that is free, .*backups/(runs.db|logs) say"):
        back_up(log, destination.parent)


def test_what_is_in_the_way_stays(log: LogBackend, destination: Path) -> None:
    """A folder of someone else's with the name of the draft is refused, and left as it is."""
    mine = destination.with_name("copy.partial") / "mine"
    mine.parent.mkdir()
    mine.write_text("precious")
    with pytest.raises(LogError, match="in the way"):
        back_up(log, destination)
    assert mine.read_text() == "precious"
    assert stopped_backups(destination.parent) == []


def test_destinations_that_make_no_sense(log: LogBackend, path: Path, tmp_path: Path) -> None:
    """A folder that is missing is named; a backup of a folder does not go into it."""
    with pytest.raises(LogError, match=r"no folder .*missing"):
        back_up(log, tmp_path / "missing" / "copy")
    if path.is_dir():
        with pytest.raises(LogError, match="is inside the log itself"):
            back_up(log, path / "copy")


@pytest.mark.parametrize("open_log", [MemoryBackend, lambda: SQLiteBackend(":memory:")])
def test_logs_in_no_files(
    open_log: Callable[[], LogBackend], destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a log that is in no file, a backup is an SQLite file with the same events."""
    monkeypatch.setattr("lllm.events.integrity.backup._EVENTS", 7)
    seen: list[tuple[int, int]] = []
    with closing(open_log()) as log:
        log.append([event("long", number) for number in range(1, 51)])
        made = back_up(log, destination, progress=lambda *at: seen.append(at))
        original = [msgspec.structs.replace(one, position=0) for one in log.read()]
    assert (made.path, made.position) == (destination, 50)
    assert made.size == destination.stat().st_size
    assert seen[-1] == (50, 50)
    assert len(seen) == 8
    assert os.listdir(destination.parent) == [destination.name]
    with closing(open_log_at(destination, make=False)) as copy:
        assert [msgspec.structs.replace(one, position=0) for one in copy.read()] == original
        assert verify(copy).is_sound


def test_a_log_that_keeps_nothing(destination: Path) -> None:
    """There is nothing to back up, and an empty copy would look like a backup."""
    with pytest.raises(LogError, match="stores nothing"):
        back_up(NoOpBackend(), destination)
    assert not destination.exists()
