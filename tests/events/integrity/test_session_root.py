"""The last event of a session says how many events there are before it, and their root."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from types import FrameType

import msgspec
import pytest

from lllm import ImportRefused, LogStore, ReplayError, SessionEnded, SQLiteBackend, WrongProcess
from lllm.events import codec, model
from lllm.events.backends.memory import MemoryBackend
from lllm.events.buffered import BufferedLog
from lllm.events.digest import seal
from lllm.events.envelope import NewEvent, Recorded
from lllm.events.errors import LogDamaged
from lllm.events.integrity.merkle import root_of
from lllm.events.integrity.session_root import ENDS
from lllm.events.integrity.verify import verify
from lllm.events.log import LogBackend
from lllm.events.recorder import Recorder
from lllm.events.redaction.redact import Redact
from lllm.testing.writers import fork
from tests.support.echo import echo
from tests.support.runs import full_disk

OPENED = model.DialogOpened(dialog=1, agent="a", alias="main")


@pytest.fixture
def log() -> Iterator[MemoryBackend]:
    """A log in memory."""
    made = MemoryBackend()
    yield made
    made.close()


def begun(log: LogBackend, redact: Redact | None = None) -> Recorder:
    """The recorder of a session whose first event is staged."""
    recorder = Recorder(log, "t", redact=redact)
    recorder.stage(model.SessionStarted(tactic_path="t", name="t", salt=recorder.salt))
    return recorder


def streams_of(log: LogBackend) -> dict[str, list[Recorded]]:
    """The events of each stream."""
    found: dict[str, list[Recorded]] = {}
    for one in log.read():
        found.setdefault(one.stream, []).append(one)
    return found


def rooted(log: LogBackend) -> int:
    """How many sessions ended; each must have its count and root, and the log be sound."""
    ended = 0
    for events in streams_of(log).values():
        if events[-1].type not in ENDS:
            continue
        end = codec.decode(events[-1])
        assert isinstance(end, model.SessionSucceeded | model.SessionFailed)
        before = [event.digest for event in events[:-1]]
        assert (end.events, end.root) == (len(before), root_of(before))
        ended += 1
    assert verify(log).is_sound
    return ended


class TestWritten:
    """Whoever and whatever writes the events."""

    def test_however_it_ends(self, store: LogStore) -> None:
        """Returned, raised, cancelled, with children and later statements about it."""
        echo(store)("done")
        with pytest.raises(ValueError), store.session("fails"):  # noqa: PT011
            raise ValueError("no")

        async def cancelled() -> None:
            async with store.session("cancelled"):
                asyncio.current_task().cancel()  # type: ignore[union-attr] # it is one
                await asyncio.sleep(1)

        with pytest.raises(asyncio.CancelledError):
            asyncio.run(cancelled())
        with store.session("above") as above:
            echo(store)("below")
        store.tag(above.session_id, {"late": "yes"})
        assert rooted(store.backend) == 5
        assert store.load_session(above.session_id).state == "success"

    def test_a_lost_session(self, store: LogStore) -> None:
        """Its end is written by whoever comes next: of a thread, and of a generator."""
        thread = threading.Thread(target=lambda: store.session("lost").__enter__())
        thread.start()
        thread.join()

        @store.tactic("generator")
        def work(_: object) -> Iterator[int]:
            yield 1
            yield 2

        going = [work("x")]
        assert next(going[0]) == 1
        going.clear()
        gc.collect()
        echo(store)("next")
        assert rooted(store.backend) == 3

    def test_threads(self, log: MemoryBackend) -> None:
        """They stage, commit and end at once."""
        for _ in range(10):
            recorder = begun(log)

            def write(mine: Recorder = recorder) -> None:
                try:
                    for _ in range(30):
                        mine.stage(OPENED, OPENED)
                        mine.commit()
                except SessionEnded:
                    pass

            threads = [threading.Thread(target=write) for _ in range(4)]
            for one in threads:
                one.start()
            recorder.end(model.SessionSucceeded(elapsed=1))
            for one in threads:
                one.join()
            recorder.commit()
        assert rooted(log) == 10

    def test_a_long_session(self, log: MemoryBackend) -> None:
        """It is longer than what verify keeps of one; another stands between."""
        recorder, other = begun(log), begun(log)
        for number in range(1, 1_300):
            recorder.stage(OPENED)
            if number % 7 == 0:
                recorder.commit()
            if number % 500 == 0:
                other.stage(OPENED)
                other.commit()
        for one in (other, recorder):
            one.end(model.SessionSucceeded(elapsed=1))
            one.commit()
        assert rooted(log) == 2

    def test_events_that_waited(self, tmp_path: Path) -> None:
        """What was held while the disk was full is in the root; a forked child changes nothing."""
        log = SQLiteBackend(tmp_path / "runs.db")
        full: list[bool] = []

        class Failing(MemoryBackend):
            """Says so while it is full."""

            def append(self, events: Sequence[NewEvent]) -> Sequence[int]:
                if full:
                    raise full_disk()
                return log.append(events)

        buffered = BufferedLog(Failing())
        recorder = begun(buffered)
        recorder.stage(OPENED)
        recorder.commit()
        full.append(True)
        recorder.stage(OPENED)
        with pytest.warns(RuntimeWarning, match="can't write its log"):
            recorder.commit()

        def child() -> None:
            with pytest.raises(WrongProcess):
                recorder.end(model.SessionSucceeded(elapsed=1))

        assert fork(child) == 0
        full.clear()
        recorder.end(model.SessionSucceeded(elapsed=1))
        recorder.commit()
        assert buffered.write_held(now=True)
        assert rooted(log) == 1
        log.close()

    def test_what_was_lost(self, log: MemoryBackend) -> None:
        """Where the log says itself that it lost events, that is no damage; the session loads."""
        full: list[bool] = [True]

        class Failing(MemoryBackend):
            """Says so while it is full."""

            def append(self, events: Sequence[NewEvent]) -> Sequence[int]:
                if full:
                    raise full_disk()
                return log.append(events)

        buffered = BufferedLog(Failing(), held_bytes=1_000)
        recorder = begun(buffered)
        recorder.stage(OPENED)
        with pytest.warns(RuntimeWarning, match="can't write its log"):
            recorder.commit()
        for _ in range(50):
            recorder.stage(OPENED)
            recorder.commit()
        full.clear()
        recorder.end(model.SessionSucceeded(elapsed=1))
        recorder.commit()
        assert buffered.write_held(now=True)
        verified = verify(log)
        assert (verified.damages, verified.lost > 0) == ((), True)

    def test_redacting_does_not_touch_it(self, log: MemoryBackend) -> None:
        """Whatever a redaction makes of a payload, the root is of what stands in the log."""

        def odd(_: str, payload: object) -> object:
            assert isinstance(payload, dict)
            return payload | {"events": 7, "root": "AAAA", "elapsed": 3}

        def failing(_: str, payload: object) -> object:
            raise ValueError(payload)

        for redact in (odd, failing):
            recorder = begun(log, redact)
            recorder.stage(OPENED)
            recorder.end(model.SessionFailed(error=model.Error("E", "m"), elapsed=1))
            recorder.commit()
        assert rooted(log) == 2

    def test_interrupts(self) -> None:
        """Whichever line of the recorder an interrupt comes before, the session can still be
        ended, and its end is right."""
        for at in count(1):
            log = MemoryBackend()
            recorder = begun(log)
            try:
                with interrupting(at):
                    recorder.stage(OPENED, OPENED)
                    recorder.commit()
                    recorder.stage(OPENED)
                    recorder.end(model.SessionSucceeded(elapsed=1))
                    recorder.commit()
            except KeyboardInterrupt:
                recorder.drop_interrupted()
                if recorder.is_open:
                    recorder.end(model.SessionFailed(error=model.Error("E", "m"), elapsed=1))
                recorder.commit()
                assert rooted(log) == 1
            else:
                assert rooted(log) == 1
                assert at > 50
                return


class interrupting:  # noqa: N801 # reads as a statement
    """Raises KeyboardInterrupt before the nth line of the recorder that runs."""

    def __init__(self, at: int) -> None:
        self._left = at

    def _trace(self, frame: FrameType, event: str, _: object) -> Callable[..., object] | None:
        names = ("recorder.py", "session_root.py", "merkle.py")
        if not frame.f_code.co_filename.endswith(names):
            return None
        if event == "line":
            self._left -= 1
            if self._left == 0:
                raise KeyboardInterrupt
        return self._trace

    def __enter__(self) -> None:
        self._before = sys.gettrace()
        sys.settrace(self._trace)

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)


Forge = Callable[[list[Recorded]], list[Recorded]]


def resealed(events: Sequence[Recorded]) -> list[Recorded]:
    """The events with digests that fit, as somebody makes them who has read the salt."""
    salt = codec.salt_of(events[0])
    return [
        seal(salt, one.stream, one.seq, one.time, one.type, one.version, one.data).at(one.position)
        for one in events
    ]


def renumbered(events: Sequence[Recorded]) -> list[Recorded]:
    """The events without a hole in their numbers."""
    return [msgspec.structs.replace(one, seq=seq) for seq, one in enumerate(events, 1)]


def altered(events: list[Recorded]) -> list[Recorded]:
    """One payload says something else."""
    events[1] = msgspec.structs.replace(events[1], data=events[1].data.replace(b'"a"', b'"b"'))
    return events


def swapped(events: list[Recorded]) -> list[Recorded]:
    """Two payloads changed places."""
    events[1], events[2] = (
        msgspec.structs.replace(one, data=other.data, type=other.type)
        for one, other in ((events[1], events[2]), (events[2], events[1]))
    )
    return events


FORGERIES: dict[str, Forge] = {
    "altered": altered,
    "swapped": swapped,
    "left out": lambda events: renumbered([events[0], *events[2:]]),
    "put in": lambda events: renumbered([*events[:2], events[1], *events[2:]]),
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES)
class TestForged:
    """Events that fit their digests, made by somebody who read the salt."""

    @pytest.fixture
    def forged(self, forge: Forge, log: MemoryBackend) -> list[Recorded]:
        """The events of a session that was tampered with, and its end was not."""
        with LogStore(MemoryBackend()) as store:
            with store.session("t", task="what") as recorder:
                recorder.stage(OPENED)
                recorder.stage(model.DialogOpened(dialog=2, agent="c", alias="other"))
            events = list(store.log.read())
        events = resealed(forge(events))
        log.append([one.without_position() for one in events])
        return events

    def test_verify_names_the_session(self, forged: list[Recorded], log: MemoryBackend) -> None:
        """And no other one."""
        with LogStore(log) as store:
            echo(store)("sound")
            [damage] = verify(log).damages
        assert (damage.stream, damage.seq) == (forged[0].stream, forged[-1].seq)

    def test_it_is_not_loaded(self, forged: list[Recorded], log: MemoryBackend) -> None:
        """Loading says which session it is; lists go on."""
        with LogStore(log) as store:
            with pytest.raises(LogDamaged, match=r"is not what was written: of its last event"):
                store.load_session(forged[0].stream)
            assert len(store.list_sessions()) == 1

    def test_it_is_not_taken_from_a_file(self, forged: list[Recorded], tmp_path: Path) -> None:
        """Neither imported nor replayed."""
        file = tmp_path / "x.jsonl"
        lines = (
            {
                "stream": one.stream, "seq": one.seq, "time": one.time, "type": one.type,
                "version": one.version, "digest": one.digest.hex(), "data": json.loads(one.data),
            }
            for one in forged
        )  # fmt: skip
        text = "".join(
            json.dumps(one, separators=(",", ":"), ensure_ascii=False) + "\n" for one in lines
        )
        file.write_text(text)
        with LogStore(MemoryBackend()) as store:
            with pytest.raises(ImportRefused, match="of its session"):
                store.import_sessions(file)
            with pytest.raises(ReplayError, match="is not what was written"), store.replay(file):
                pass


def test_what_an_earlier_lllm_wrote(log: MemoryBackend) -> None:
    """Ends without a root are read and verified as before."""
    salt = bytes(32)
    started = codec.encode(model.SessionStarted(tactic_path="t", name="t", salt=salt))
    log.append([
        seal(salt, "s", 1, 1, "session.started", 1, started),
        seal(salt, "s", 2, 2, "session.succeeded", 1, b'{"delivery":"x","elapsed":5}'),
    ])  # fmt: skip
    assert verify(log).is_sound
    with LogStore(log) as store:
        assert store.load_session("s").delivery == "x"


@pytest.mark.parametrize("root", [b"", b"x" * 31, b"x" * 32])
def test_a_root_of_any_bytes(log: MemoryBackend, root: bytes) -> None:
    """It is damage, not an error of ours."""
    salt = bytes(32)
    end = codec.encode(model.SessionSucceeded(elapsed=1, events=1, root=root))
    started = codec.encode(model.SessionStarted(tactic_path="t", name="t", salt=salt))
    log.append([
        seal(salt, "s", 1, 1, "session.started", 1, started),
        seal(salt, "s", 2, 2, "session.succeeded", 1, end),
    ])  # fmt: skip
    [damage] = verify(log).damages
    assert damage.seq == 2
