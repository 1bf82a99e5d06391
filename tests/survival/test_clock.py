"""The wall clock jumps back an hour between events: nothing but the times themselves changes.

What these tests hold, for readers of lists: order within a session is that of its events, by seq;
order in the log is by position; lists are newest first by (start time, id), so that a session begun
after the clock was set back stands where its clock says. A duration is never taken from two times.
"""

from __future__ import annotations

import datetime as dt
import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lllm import TacticCallSession
from tests.survival.crowd import watched
from tests.survival.figures import Figures
from tests.survival.kept import ended, states
from tests.survival.ledger import audit, entries
from tests.survival.places import KINDS, Kind, Place
from tests.survival.scale import Scale, asked_for
from tests.survival.writers import outer

pytestmark = pytest.mark.slow

HOUR = 3600 * 10**9
CALLS = 5


@contextmanager
def jumping(every: int) -> Iterator[list[int]]:
    """A wall clock that is set back an hour at every so many looks; gives the times it told."""
    clock, told = time.time_ns, []
    looks = itertools.count(1)

    def jumped() -> int:
        now = clock() - next(looks) // every * HOUR
        told.append(now)
        return now

    time.time_ns = jumped
    try:
        yield told
    finally:
        time.time_ns = clock


def jump_back(scale: Scale, folder: Path, kind: Kind) -> Figures:
    """Call a tactic with sub-tactics and tools, on a clock that jumps back all the time."""
    figures = Figures(f"clock {kind}")
    calls = max(CALLS, scale.rounds // 10)
    for every in (1, 2, 7):
        place = Place(kind, folder / f"every{every}")
        place.folder.mkdir()
        ledger = place.folder / "ledger"
        with watched(place, ledger) as store:
            tactic = outer(store)
            with jumping(every) as told:
                began = time.perf_counter_ns()
                sessions = [
                    tactic(f"task {n}", return_session=True, tags={"n": str(n)})
                    for n in range(calls)
                ]
                lasted = time.perf_counter_ns() - began
            assert told[-1] < told[0] - HOUR  # it jumped
            audit(store.backend, entries(ledger), figures)
            listed = store.list_sessions()
            order = [(one.timestamp, one.session_id) for one in listed]
            assert order == sorted(order, reverse=True)
            assert sorted(int(one.tags["n"]) for one in listed) == list(range(calls))
            for session in sessions:
                assert isinstance(session, TacticCallSession)
                _durations_are_right(session, lasted)
                assert store.load_session(session.session_id) == session
            paged, cursor = [], None
            while page := store.list_sessions(limit=2, cursor=cursor):
                paged += page
                cursor = page[-1].cursor
            assert paged == listed
            oldest = listed[-1].timestamp
            assert len(store.list_sessions(after=oldest)) == calls
            assert store.list_sessions(before=oldest) == []
            assert store.list_sessions(before=oldest + dt.timedelta(microseconds=1))
            assert states(store) == ended(store)
            assert store.export_cost_summary()["session_count"] == calls
            assert store.rebuild(check=True).difference is None
        with place.store() as store:  # and for whoever comes when the clock is right again
            assert store.list_sessions() == listed
        figures.rounds += 1
        figures.faults += len(told) // every
    return figures.whole()


def _durations_are_right(session: TacticCallSession, longest: int) -> None:
    """Of a session, its agents' calls and tools, and those of the sessions below it."""
    assert session.elapsed is not None
    assert 0 < session.elapsed <= longest
    for call in (call for calls in session.agent_sessions.values() for call in calls):
        assert call.elapsed is not None
        assert 0 < call.elapsed <= session.elapsed
        for ran in (ran for step in call.interrupts.values() for ran in step):
            assert ran.elapsed is not None
            assert 0 <= ran.elapsed <= call.elapsed
    for below in (one for named in session.sub_tactic_sessions.values() for one in named):
        _durations_are_right(below, session.elapsed)


@pytest.mark.parametrize("kind", KINDS)
def test_the_clock_jumps_back(tmp_path: Path, kind: Kind) -> None:
    """Order and durations are what they were without; lists are by (start time, id), also page by
    page, and filters by time mean the times that were told."""
    assert jump_back(asked_for(), tmp_path, kind).acknowledged > 0


@pytest.mark.parametrize("kind", KINDS)
def test_sessions_of_one_moment(tmp_path: Path, kind: Kind) -> None:
    """A clock that stands still gives sessions one start time; their ids decide the order, and a
    cursor loses none."""
    with Place(kind, tmp_path).store() as store, pytest.MonkeyPatch.context() as patched:
        now = time.time_ns()
        patched.setattr(time, "time_ns", lambda: now)
        tactic = outer(store)
        for number in range(CALLS):
            tactic(f"task {number}")
        listed = store.list_sessions()
        assert len({one.timestamp for one in listed}) == 1
        ids = [one.session_id for one in listed]
        assert ids == sorted(ids, reverse=True)
        paged, cursor = [], None
        while page := store.list_sessions(limit=1, cursor=cursor):
            paged += [one.session_id for one in page]
            cursor = page[-1].cursor
        assert paged == ids
