"""Logging never breaks the user's call: what can't be written waits, in order, up to a bound."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lllm import LogDamaged, LogStore, LogUnavailable, tool
from lllm.events import buffered as holding_module
from lllm.events import codec
from lllm.events.backends.memory import MemoryBackend
from lllm.events.buffered import BufferedLog
from lllm.events.envelope import NewEvent, Recorded
from lllm.events.errors import AppendConflict
from lllm.events.model import LogGap
from lllm.invokers import Request
from lllm.invokers.scripted import Reply, tool_call
from lllm.testing.writers import batch, event, fork, without_positions
from tests.support.runs import Asking, Doing, WatchedLog, called, config, failed, full_disk, types


def echo(request: Request) -> Reply:
    """Answers with what was said last."""
    return f"re: {request.messages[-1].text}"


@pytest.fixture
def log(tmp_path: Path) -> Iterator[WatchedLog]:
    """A log that can be told to fail."""
    opened = WatchedLog(tmp_path / "runs.db")
    yield opened
    opened.close()


def stored(log: BufferedLog) -> list[Recorded]:
    """What stands in the log."""
    return list(log.read())


def outage() -> pytest.WarningsRecorder:
    """The warning that an outage makes."""
    return pytest.warns(RuntimeWarning, match="can't write its log; events wait in memory")


def test_what_is_read_by_default() -> None:
    """All events are read from the first on, where nothing else is said."""
    holding = BufferedLog(MemoryBackend())
    holding.append(batch("a", 0))
    kind = batch("a", 0)[0].type
    assert without_positions(holding.read()) == batch("a", 0)
    assert next(holding.read_types([kind])).position == 1
    assert [one.position for one in holding.read(after=1)] == [2, 3][: len(batch("a", 0)) - 1]


def test_what_can_not_be_written_waits_in_order(log: WatchedLog) -> None:
    """Where the log can't be written, one warning says so; the events wait, and are written in
    order, with later ones behind them, when it can."""
    holding = BufferedLog(log)
    holding.append(batch("a", 0))
    log.error = full_disk()
    with outage() as caught:
        assert holding.append(batch("a", 1)) == ()
        assert holding.append(batch("b", 0)) == ()
        assert holding.append(batch("a", 2)) == ()
    assert len(caught) == 1
    assert "disk is full" in str(caught[0].message)
    assert holding.held == [*batch("a", 1), *batch("b", 0), *batch("a", 2)]
    assert without_positions(stored(holding)) == batch("a", 0)
    log.error = None
    assert holding.write_held(now=True)
    assert holding.held == []
    holding.append(batch("b", 1))
    order = [("a", 0), ("a", 1), ("b", 0), ("a", 2), ("b", 1)]
    assert without_positions(stored(holding)) == [one for s, n in order for one in batch(s, n)]
    assert [len(events) for events in log.appends] == [3] * 5


def test_a_log_that_can_not_be_written_is_tried_now_and_then(
    log: WatchedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a log can't be written, what is appended is held at once: the log itself is not tried
    again before a while has passed since the last try."""
    monkeypatch.setattr(holding_module, "_RETRY_SECONDS", 60.0)
    holding = BufferedLog(log)
    log.error = full_disk()
    with outage():
        holding.append(batch("a", 0))
    log.error = None
    holding.append(batch("a", 1))  # it could be written, but nobody has looked
    assert log.appends == []
    monkeypatch.setattr(holding_module, "_RETRY_SECONDS", 0.0)
    log.error = full_disk()
    assert not holding.write_held(now=True)
    log.error = None
    holding.append(batch("a", 2))
    assert without_positions(stored(holding)) == [one for n in range(3) for one in batch("a", n)]


def test_each_outage_warns_anew(log: WatchedLog) -> None:
    """After a log was written again, the next outage is told again."""
    holding = BufferedLog(log)
    for number in range(2):
        log.error = full_disk()
        with outage():
            holding.append(batch("a", number))
        log.error = None
        holding.write_held(now=True)


@pytest.mark.parametrize(
    "error", [full_disk(), OSError("gone"), ValueError("a bug"), LogDamaged("torn", position=1)]
)
def test_whatever_a_log_raises_is_no_error_of_the_call(log: WatchedLog, error: Exception) -> None:
    """Not only LogUnavailable: whatever the log behind raises makes the events wait."""
    holding = BufferedLog(log)
    log.error = error
    with outage():
        holding.append(batch("a", 0))
        assert holding.try_append(batch("a", 1)) is None  # some wait: it has to be done in a thread
        holding.append(batch("a", 1))
    assert not holding.write_held(now=True)
    log.error = None
    assert holding.write_held(now=True)
    assert without_positions(stored(holding)) == [*batch("a", 0), *batch("a", 1)]


def test_a_conflict_is_an_answer(log: WatchedLog) -> None:
    """AppendConflict is told to whoever appends: a definition is known, a stream is another's."""
    holding = BufferedLog(log)
    holding.append([event("a", 1, b"1")])
    with pytest.raises(AppendConflict):
        holding.append([event("a", 1, b"2")])
    with pytest.raises(AppendConflict):
        holding.try_append([event("a", 1, b"2")])


def test_a_statement_that_another_made_meanwhile_is_no_loss(log: WatchedLog) -> None:
    """Of what waits, a statement that stands in the log already is dropped; a batch that can't be
    stored any more is counted in a gap, and what comes behind it is written."""
    holding = BufferedLog(log)
    log.error = full_disk()
    with outage():
        holding.append([event("definition", 1, b"mine")])
        holding.append(batch("a", 0))
        holding.append(batch("b", 0))
    log.error = None
    log.append([event("definition", 1, b"theirs")])
    log.append([event("a", 1, b"theirs")])
    assert holding.write_held(now=True)
    *_, gap, one, two, three = stored(holding)
    assert without_positions([one, two, three]) == batch("b", 0)
    told = codec.decode(gap)
    assert isinstance(told, LogGap)
    assert told.lost == 3
    assert "other events stand in their place" in told.reason


def test_past_the_bound_the_oldest_are_counted(log: WatchedLog) -> None:
    """Past the bound the oldest events are dropped, and a log.gap says how many, from when to when
    and why; it stands before those that were kept."""
    holding = BufferedLog(log, held_bytes=100)
    log.error = full_disk()
    with outage():
        for n in range(1, 11):
            holding.append([event("a", n, b'"%s"' % (b"x" * 38), time=n)])
    assert [one.seq for one in holding.held] == [9, 10]
    log.error = None
    assert holding.write_held(now=True)
    gap, *kept = stored(holding)
    assert [one.seq for one in kept] == [9, 10]
    told = codec.decode(gap)
    assert isinstance(told, LogGap)
    assert (told.lost, told.first_time, told.last_time) == (8, 1, 8)
    assert "100 bytes" in told.reason


def test_one_append_larger_than_the_bound_waits(log: WatchedLog) -> None:
    """The last append is never dropped, however large."""
    holding = BufferedLog(log, held_bytes=10)
    log.error = full_disk()
    with outage():
        holding.append([event("a", 1, b"x" * 1000)])
    log.error = None
    assert holding.write_held(now=True)
    assert len(stored(holding)) == 1


def test_closing_tries_once_more(log: WatchedLog) -> None:
    """close() writes what waits; what it can't write, it says."""
    holding = BufferedLog(log)
    log.error = full_disk()
    with outage():
        holding.append(batch("a", 0))
    with pytest.warns(RuntimeWarning, match="could not write 3 events before its log was closed"):
        holding.close()


def test_those_who_would_rather_stop(log: WatchedLog) -> None:
    """on_error="raise" raises LogUnavailable and holds nothing, whatever the log behind raises."""
    holding = BufferedLog(log, on_error="raise")
    for error in (full_disk(), OSError("gone")):
        log.error = error
        for append in (holding.append, holding.try_append):
            with pytest.raises(LogUnavailable, match=r"disk is full|OSError: gone"):
                append(batch("a", 0))
    assert holding.held == []
    with pytest.raises(ValueError, match=r'on_error is "hold" or "raise"'):
        BufferedLog(log, on_error="ignore")  # type: ignore[arg-type] # that is the point


def test_what_the_parent_holds_the_child_does_not_write(log: WatchedLog) -> None:
    """After a fork the child holds nothing, and knows of no gap: the parent writes what waits, and
    what it had to drop, once."""
    holding = BufferedLog(log, held_bytes=1)
    log.error = full_disk()
    with outage():
        holding.append(batch("dropped", 0))
        holding.append(batch("a", 0))

    def in_child() -> None:
        assert holding.held == []
        log.error = None
        assert holding.write_held(now=True)
        assert stored(holding) == []

    assert fork(in_child) == 0
    log.error = None
    assert holding.write_held(now=True)
    gap, *kept = stored(holding)
    assert gap.type == "log.gap"
    assert without_positions(kept) == batch("a", 0)


def test_threads_may_append_through_an_outage(log: WatchedLog) -> None:
    """Streams that many threads write through an outage are whole and in order afterwards."""
    holding = BufferedLog(log)

    def write(number: int) -> None:
        for n in range(20):
            if number == 0 and n == 5:
                log.error = full_disk()
            if number == 0 and n == 15:
                log.error = None
            holding.append(batch(str(number), n))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(write, range(8)))
    assert holding.write_held(now=True)
    for number in range(8):
        read = without_positions(holding.read(stream=str(number)))
        assert read == [one for n in range(20) for one in batch(str(number), n)]


# -- seen by a user


def test_a_call_through_an_outage(log: WatchedLog) -> None:
    """A call goes on where its log can't be written, and return_session works meanwhile; later the
    store says the same."""
    with LogStore(log) as store:
        tactic = Asking(config(echo), log_store=store)
        log.error = full_disk()
        with outage() as caught:
            returned = called(tactic, "through")
            again = called(tactic, "again")
        assert len(caught) == 1
        assert (returned.state, returned.delivery) == ("success", "re: through")
        assert returned.total_cost.cost > 0
        log.error = None
        assert store.log.write_held(now=True)
        assert store.load_session(returned.session_id) == returned
        assert store.load_session(again.session_id) == again
        assert [one.state for one in store.list_sessions()] == ["success", "success"]
        assert types(store).count("agent.defined") == 1


def test_nobody_follows_a_log_that_can_not_be_written(log: WatchedLog) -> None:
    """Where what has just happened waits in memory, the rows are left for whoever reads; no thread
    tries again and again."""
    with LogStore(log) as store:
        tactic = Asking(config(echo), log_store=store)
        log.error = full_disk()
        with outage():
            called(tactic, "through")
        assert store._rows.catch_up(timeout=0)
        assert store._host._scheduler._later is None
        log.error = None
        store.log.write_held(now=True)
        assert [one.state for one in store.list_sessions()] == ["success"]


def test_an_outage_in_the_middle_of_a_call(log: WatchedLog) -> None:
    """A session whose beginning is stored and whose end waits is returned whole."""
    with LogStore(log) as store:

        def do(self: Doing) -> object:
            agent = self.agents["a"]
            agent.open()
            agent.receive("before")
            agent.respond()
            log.error = full_disk()
            agent.receive("after")
            return agent.respond().content

        with outage():
            session = called(Doing(do, config(echo), log_store=store))
        assert (session.state, session.delivery) == ("success", "re: after")
        assert len(session.agent_sessions["a"]) == 2
        log.error = None
        assert store.log.write_held(now=True)
        assert store.load_session(session.session_id) == session


def test_a_failure_keeps_its_own_error(tmp_path: Path) -> None:
    """With on_error="raise", a call that fails by itself raises its own error, and a note on it
    says that the log could not be written."""
    log = WatchedLog(tmp_path / "runs.db")
    store = LogStore(log, on_error="raise")

    def do(_: Doing) -> object:
        log.error = full_disk()
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine") as caught:
        Doing(do, log_store=store)("x")
    assert caught.value.__notes__ == [f"lllm could not write this to its log: {full_disk()}"]
    log.error = None
    store.close()


@pytest.mark.parametrize("on_error", ["hold", "raise"])
def test_a_log_that_can_not_be_written_at_all(tmp_path: Path, on_error: str) -> None:
    """With on_error="raise" nothing is called; with "hold" everything is."""
    log = WatchedLog(tmp_path / "runs.db")
    store = LogStore(log, on_error=on_error)  # type: ignore[arg-type] # one of both
    log.error = full_disk()
    reached: list[int] = []
    tactic = Doing(lambda _: reached.append(1), log_store=store)
    if on_error == "raise":
        with pytest.raises(LogUnavailable):
            tactic("x")
    else:
        with outage():
            tactic("x")
    assert reached == ([1] if on_error == "hold" else [])
    log.error = None
    store.close()


def test_a_closed_store_does_not_break_a_call(tmp_path: Path) -> None:
    """A call after its store was closed works, and says that it can't be kept."""
    store = LogStore(WatchedLog(tmp_path / "runs.db"))
    tactic = Asking(config(echo), log_store=store)
    store.close()
    with outage():
        assert tactic("x") == "re: x"


@pytest.mark.parametrize("at", ["tool.called", "llm.requested"])
def test_nobody_is_blamed_for_the_log(tmp_path: Path, at: str) -> None:
    """With on_error="raise", a single append that fails before a tool or a model ends the call; it
    is not told to the model, nor tried again, as a failure of theirs."""
    ran: list[str] = []

    class FailingOnce(WatchedLog):
        def append(self, events: Sequence[NewEvent]) -> Sequence[int]:
            if events[-1].type == at and not ran.count("failed"):
                ran.append("failed")
                raise full_disk()
            return super().append(events)

    @tool(description="work")
    def work() -> str:
        ran.append("tool")
        return "worked"

    def script(_: Request) -> Reply:
        ran.append("model")
        return tool_call("work")

    with LogStore(FailingOnce(tmp_path / "runs.db"), on_error="raise") as store:
        tactic = Asking(config(script, tools=[work]), log_store=store)
        with pytest.raises(LogUnavailable):
            tactic("x")
        assert ran == (["model", "failed"] if at == "tool.called" else ["failed"])
        (summary,) = store.list_sessions()
        assert summary.state == "failure"


def test_failing_calls_are_recorded_after_an_outage(log: WatchedLog) -> None:
    """A call that fails during an outage is listed as failed when the log can be written."""
    with LogStore(log) as store:

        def do(_: Doing) -> object:
            raise LookupError("during")

        log.error = full_disk()
        with outage(), pytest.raises(LookupError):
            Doing(do, log_store=store)("x")
        log.error = None
        store.log.write_held(now=True)
        assert failed(Doing(do), store).error is not None
