"""A test suite that every log backend must pass.

    from lllm.testing import SharedLogContract

    class TestMyLog(SharedLogContract):
        def open_log(self, folder):
            return MyLog(folder / "log")

pytest runs the tests, so this module needs pytest. Each class includes the tests of the one before:
`AppendContract` is for every log that can be appended to, `LogContract` for logs that can be read,
and `SharedLogContract` for logs that outlive their object and are shared between processes. Use the
last one that applies. Each test's docstring states a requirement.

The test class is sent to other processes by pickle, so define it at the top level of a module that
can be imported, and keep no state in it.
"""

from __future__ import annotations

import multiprocessing
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from lllm.events.backend import AppendsWithoutWaiting, ErasesPayloads, LogBackend, read_types
from lllm.events.digest import erase
from lllm.events.envelope import NewEvent, Recorded
from lllm.events.errors import AppendConflict
from lllm.testing.writers import (
    PATIENCE,
    WRITERS,
    append_batches,
    append_in_process,
    append_until_killed,
    batch,
    event,
    fork,
    in_processes,
    race_in_process,
    without_positions,
)

__all__ = [
    "AppendContract",
    "LogContract",
    "SharedLogContract",
]

PAYLOADS = {
    "object": b'{"text":"plain"}',
    "unicode": '{"text":"Größe, 字, 🙂, \u2028"}'.encode(),
    "line breaks": b'{\n  "text": "pretty",\r\n  "more":0}\n',
    "end of a record": b'{"text":"x","more":0}\n{"stream":"',
    "spaces around": b'  {"a": 1}\t',
    "control characters": b'"\\u0000 \\n \\u001f"',
    "raw control characters": b'"\x00\x01\x1f"',
    "a lone surrogate": b'{"text":"\\ud800"}',
    "numbers": b"[1e400,-0,18446744073709551617,0.1000]",
    "the same key twice": b'{"a":1,"a":2}',
    "deep": b"[" * 20_000 + b"]" * 20_000,
    "no JSON": b'{"text": NaN',
    "no text": bytes(range(256)),
    "nothing": b"",
    "5 MB": b'{"text":"' + b"0123456789" * 500_000 + b'"}',
}
NAMES = [
    "plain",
    "with space",
    'quote" and \\',
    "%_*?[",
    "ünïcödé 字",
    'a","seq":1,"type":"b',
    "\n",
]


class AppendContract:
    """Tests for every log, even one that stores nothing."""

    def open_log(self, folder: Path) -> LogBackend:
        """Open the log in this folder; two calls return two objects for the same log.

        The folder does not matter to a log that stores nothing outside of the object.

        Args:
            folder: A folder that is empty at first.

        Returns:
            The opened log, which the tests close.
        """
        raise NotImplementedError("say how your log is opened: override open_log(self, folder)")

    @pytest.fixture
    def log(self, tmp_path: Path) -> Iterator[LogBackend]:
        """A new, empty log."""
        log = self.open_log(tmp_path)
        yield log
        log.close()

    def test_new_log(self, log: LogBackend) -> None:
        """A new log has the head 0 and nothing to read."""
        assert log.head() == 0
        assert list(log.read()) == []

    def test_positions(self, log: LogBackend) -> None:
        """An append returns one position for each event, above 0 and each above any before."""
        positions = [0]
        for number in range(5):
            positions += log.append(batch("s", number))
        assert len(positions) == 16
        assert positions == sorted(set(positions))

    def test_empty_append(self, log: LogBackend) -> None:
        """An append of no events returns no positions and stores nothing."""
        assert list(log.append([])) == []
        assert log.head() == 0

    def test_threads_get_positions_of_their_own(self, log: LogBackend) -> None:
        """Events that several threads append all get different positions."""
        with ThreadPoolExecutor(WRITERS) as threads:
            tasks = [threads.submit(append_batches, log, f"s{n}", 20) for n in range(WRITERS)]
        positions = [position for task in tasks for position in task.result()]
        assert len(set(positions)) == len(positions) == WRITERS * 20 * 3

    def test_without_waiting(self, log: LogBackend) -> None:
        """With no other writer, `try_append` does the same as `append`."""
        if isinstance(log, AppendsWithoutWaiting):
            first = log.try_append(batch("s", 0))
            second = log.append(batch("s", 1))
            assert first is not None
            assert max(first) < min(second)

    def test_close_twice(self, log: LogBackend) -> None:
        """Closing a log twice does nothing the second time."""
        log.append(batch("s", 0))
        log.close()
        log.close()


class LogContract(AppendContract):
    """Tests for every log whose events can be read."""

    def test_erased_payloads(self, log: LogBackend) -> None:
        """A log that can erase overwrites the payloads it is told to, and changes nothing else."""
        if not isinstance(log, ErasesPayloads):
            return
        log.append([*batch("gone", 0), *batch("kept", 0)])
        log.append(batch("gone", 1))
        before = list(log.read())
        erased = {one.position: erase(one, b"") if one.stream == "gone" else one for one in before}
        log.erase_payloads([one for one in erased.values() if one.stream == "gone"])
        assert list(log.read()) == list(erased.values())
        assert list(log.append(batch("gone", 1))) == [one.position for one in before[-3:]]
        log.vacuum()
        assert list(log.read()) == list(erased.values())

    def test_read_back(self, log: LogBackend) -> None:
        """Events are read as they were appended, in order, at the returned positions.

        The last of them is the head.
        """
        events = [*batch("a", 0), event("b", 1, time=2**63 - 1), event("c", 7, time=-(2**63))]
        positions = log.append(events)
        found = list(log.read())
        assert without_positions(found) == events
        assert [one.position for one in found] == list(positions)
        assert log.head() == positions[-1]

    @pytest.mark.parametrize("name", PAYLOADS)
    def test_data_is_verbatim(self, log: LogBackend, name: str) -> None:
        """A payload is read byte for byte as it was appended, whatever it contains."""
        events = [event("s", 1, PAYLOADS[name]), event("s", 2)]
        log.append(events)
        log.append([event("s", 3, PAYLOADS[name])])
        assert without_positions(log.read()) == [*events, event("s", 3, PAYLOADS[name])]

    def test_names(self, log: LogBackend) -> None:
        """Streams and types may have any names, and similar names are not confused."""
        events = [event(name, 1, type_=name) for name in NAMES]
        log.append(events)
        for one in events:
            assert without_positions(log.read(stream=one.stream)) == [one]
            assert without_positions(read_types(log, [one.type])) == [one]
            log.append([one])
        assert len(list(log.read())) == len(NAMES)

    def test_many_pages(self, log: LogBackend) -> None:
        """A read continues to the end of a long log."""
        events = [event(f"s{n % 3}", n // 3 + 1, b'"%02000d"' % n) for n in range(1500)]
        for first in range(0, 1500, 100):
            log.append(events[first : first + 100])
        assert without_positions(log.read()) == events
        assert without_positions(log.read(stream="s1")) == events[1::3]

    def test_range(self, log: LogBackend) -> None:
        """A read covers positions above `after` up to `upto`, even if no events are there."""
        positions = [position for n in range(4) for position in log.append(batch("s", n))]
        edges = [0, *positions, positions[-1] + 1, positions[0] - 1, 2**62]
        for after in edges:
            for upto in [*edges, None]:
                found = [one.position for one in log.read(after=after, upto=upto)]
                last = positions[-1] if upto is None else upto
                assert found == [place for place in positions if after < place <= last]

    def test_one_stream(self, log: LogBackend) -> None:
        """A read of one stream returns only its events, in the given range."""
        log.append([event("a", 1), event("ab", 1), event("a", 2)])
        positions = log.append([event("a", 3), event("b", 1), event("a", 4)])
        read = log.read(stream="a", after=positions[0] - 1, upto=positions[1])
        assert without_positions(read) == [event("a", 3)]
        assert [one.seq for one in log.read(stream="a")] == [1, 2, 3, 4]
        assert list(log.read(stream="nobody")) == []

    def test_some_types(self, log: LogBackend) -> None:
        """A read by type returns only events of these types, in the given range."""
        kinds = ["x", "x.y", "y", "x", "z"]
        positions = log.append([event("s", n + 1, type_=kind) for n, kind in enumerate(kinds)])
        assert [one.seq for one in read_types(log, {"x", "z"})] == [1, 4, 5]
        found = read_types(log, {"x", "y"}, after=positions[0], upto=positions[2])
        assert [one.seq for one in found] == [3]
        assert list(read_types(log, ())) == []

    def test_read_is_of_now(self, log: LogBackend) -> None:
        """A read without `upto` ends at the log's head at the time of the call."""
        log.append(batch("s", 0))
        read = log.read()
        log.append(batch("s", 1))
        assert without_positions(read) == batch("s", 0)

    def test_append_while_reading(self, log: LogBackend) -> None:
        """Appends work while a read is in progress that is never finished."""
        log.append(batch("s", 0))
        read = log.read()
        next(read)
        in_time = threading.Thread(target=log.append, args=(batch("s", 1),), daemon=True)
        in_time.start()
        in_time.join(PATIENCE)
        assert len(list(log.read())) == 6
        assert len(list(read)) == 2

    def test_append_again(self, log: LogBackend) -> None:
        """Events that are appended again are not stored twice; positions are the same."""
        first = list(log.append(batch("s", 0)))
        second = list(log.append(batch("s", 1)))
        assert list(log.append(batch("s", 0))) == first
        assert list(log.append(batch("s", 1)[1:])) == second[1:]
        assert without_positions(log.read()) == batch("s", 0) + batch("s", 1)

    def test_append_again_and_more(self, log: LogBackend) -> None:
        """An append of stored events followed by new ones stores the new ones."""
        first = list(log.append(batch("s", 0)))
        positions = list(log.append(batch("s", 0) + batch("s", 1)))
        assert positions[:3] == first
        assert without_positions(log.read()) == batch("s", 0) + batch("s", 1)
        assert [one.position for one in log.read()] == positions

    @pytest.mark.parametrize("place", [0, 1, 2])
    def test_conflict(self, log: LogBackend, place: int) -> None:
        """An append with another event at a stored event's place is refused as a whole.

        Later appends still work.
        """
        log.append(batch("s", 0))
        events: list[NewEvent] = [event("t", 1), event("u", 1)]
        events.insert(place, event("s", 2, b'"another"'))
        with pytest.raises(AppendConflict, match="Event 2 of 's'"):
            log.append(events)
        assert without_positions(log.read()) == batch("s", 0)
        log.append([event("t", 1), *batch("s", 1)])
        assert without_positions(log.read()) == [*batch("s", 0), event("t", 1), *batch("s", 1)]

    def test_conflict_with_itself(self, log: LogBackend) -> None:
        """An append with two events at the same place is refused."""
        with pytest.raises(AppendConflict):
            log.append([event("s", 1), event("t", 1), event("s", 1, b'"another"')])
        assert list(log.read()) == []

    def test_threads(self, log: LogBackend) -> None:
        """Everything that several threads append is stored, each stream in order.

        A reader at the same time sees only whole appends, no event twice, and no event that appears
        before one that it has already seen.
        """
        seen: list[Recorded] = []
        with ThreadPoolExecutor(WRITERS) as threads:
            tasks = [threads.submit(append_batches, log, f"s{n}", 30) for n in range(WRITERS)]
            while not all(task.done() for task in tasks):
                news = list(log.read(after=seen[-1].position if seen else 0))
                assert set(Counter((one.stream, one.data) for one in news).values()) <= {3}
                seen += news
        seen += log.read(after=seen[-1].position if seen else 0)
        assert seen == list(log.read())
        for n, task in enumerate(tasks):
            mine = [one for one in seen if one.stream == f"s{n}"]
            assert [one.seq for one in mine] == list(range(1, 91))
            assert [one.position for one in mine] == task.result()

    def test_reader_that_stops(self, log: LogBackend) -> None:
        """A read that is abandoned does not keep the log from closing."""
        log.append(batch("s", 0))
        read = log.read()
        next(read)
        log.close()
        del read


class SharedLogContract(LogContract):
    """Tests for a log that persists and that several processes write to."""

    def test_open_again(self, log: LogBackend, tmp_path: Path) -> None:
        """A log that is opened again has the same events at the same positions.

        New events get positions after them, and stored events are recognised.
        """
        log.append(batch("s", 0))
        before = list(log.read())
        log.close()
        again = self.open_log(tmp_path)
        assert list(again.read()) == before
        assert again.head() == before[-1].position
        assert list(again.append(batch("s", 0))) == [one.position for one in before]
        assert min(again.append(batch("s", 1))) > before[-1].position
        with pytest.raises(AppendConflict):
            again.append([event("s", 6, b'"another"')])
        assert without_positions(again.read()) == batch("s", 0) + batch("s", 1)
        again.close()

    def test_two_openings(self, log: LogBackend, tmp_path: Path) -> None:
        """A second object for a log sees the first one's events, and does not store them again."""
        other = self.open_log(tmp_path)
        for number in range(5):
            other.append([event(f"other{number}", 1)])
            positions = list(log.append(batch("s", number)))
            assert other.head() == positions[-1]
            assert list(other.append(batch("s", number))) == positions
            with pytest.raises(AppendConflict):
                log.append([event(f"other{number}", 1, b'"another"')])
        assert list(other.read()) == list(log.read())
        assert len(list(log.read())) == 20
        other.close()

    def test_processes(self, log: LogBackend, tmp_path: Path) -> None:
        """Everything that several processes append is stored, each stream in order.

        The positions are those that `append` returned.
        """
        told = in_processes(append_in_process, self.open_log, tmp_path)
        found = list(log.read())
        assert len(found) == WRITERS * 25 * 3
        for number, positions in enumerate(told):
            mine = [one for one in found if one.stream == f"s{number}"]
            assert [one.seq for one in mine] == list(range(1, 76))
            assert [one.position for one in mine] == positions

    def test_race(self, log: LogBackend, tmp_path: Path) -> None:
        """If several processes write the same stream, exactly one succeeds.

        For the others, the event is stored already, or conflicts if theirs is different.
        """
        told = in_processes(race_in_process, self.open_log, tmp_path)
        found = list(log.read())
        same = {one.stream: one.position for one in found if one.stream.startswith("same")}
        differ = [one for one in found if one.stream.startswith("differ")]
        assert len(same) == len(differ) == 10
        assert len(found) == 20
        assert all(positions == list(same.values()) for positions, _ in told)
        winners = [number for _, wins in told for number in wins]
        assert sorted(winners) == list(range(10))

    def test_fork(self, log: LogBackend) -> None:
        """After a fork during other threads' appends, parent and child can both append."""
        stop = threading.Event()

        def go_on(stream: str) -> int:
            number = 0
            while not stop.is_set():
                log.append(batch(stream, number))
                number += 1
            return number

        with ThreadPoolExecutor(2) as threads:
            tasks = [threads.submit(go_on, f"parent{n}") for n in range(2)]
            codes = [fork(partial(append_batches, log, f"child{n}", 5)) for n in range(5)]
            stop.set()
        assert codes == [0] * 5
        counts = Counter(one.stream for one in log.read())
        assert [counts[f"child{n}"] for n in range(5)] == [15] * 5
        assert [counts[f"parent{n}"] for n in range(2)] == [3 * task.result() for task in tasks]

    def test_kill(self, log: LogBackend, tmp_path: Path) -> None:
        """When a process is killed during appends, every append that returned is stored.

        No append is stored in part, and the one in progress can be appended again.
        """
        context = multiprocessing.get_context("spawn")
        receiving, sending = context.Pipe(duplex=False)
        process = context.Process(
            target=append_until_killed, args=(self.open_log, tmp_path, sending)
        )
        process.start()
        sending.close()
        acknowledged = [receiving.recv() for _ in range(20)]
        process.kill()
        process.join()
        while receiving.poll():
            try:
                acknowledged.append(receiving.recv())
            except (EOFError, OSError):  # the last message was incomplete
                break
        last = acknowledged[-1]
        stored = without_positions(log.read())
        whole = [one for number in range(last + 2) for one in batch("s", number)]
        assert stored in (whole, whole[:-3])
        log.append(batch("s", last + 1))
        log.append(batch("s", last + 2))
        assert without_positions(log.read()) == whole + batch("s", last + 2)
