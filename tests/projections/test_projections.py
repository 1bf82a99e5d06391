"""Lists, sums and rebuilds, against a reader who remembers everything; after any history."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Sequence
from decimal import Decimal
from itertools import product
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    rule,
)

from lllm import LocalFileBackend, LogStore, Runtime, SQLiteBackend
from lllm.events.model import Usage
from lllm.pricing.cost_summary import CostGroup, CostLine
from lllm.projections.engine import projector, rebuild
from lllm.projections.view import storable
from lllm.store.summaries import SORTS, SessionSummary, Sort
from tests.support.histories import Attempt, History, Session

TACTICS = ("a", "p::b")
TAGS = st.dictionaries(st.sampled_from(["env", "user"]), st.sampled_from(["x", "y", "\udc80"]))
CONDITIONS = st.fixed_dictionaries(
    {}, optional={"model": st.sampled_from(["m1", "m2"]), "agent": st.sampled_from(["one", "two"])}
)
PARTITIONS = ("", "acme")
ATTEMPTS = st.builds(
    Attempt,
    model=st.sampled_from(["m1", "m2"]),
    agent=st.sampled_from(["one", "two"]),
    nanos=st.none() | st.integers(0, 10**12),
    failed=st.booleans(),
    usage=st.none() | st.builds(Usage, input=st.integers(0, 10**6), output=st.integers(0, 10**6)),
    refused=st.booleans(),
)
GROUPINGS = (
    (),
    ("tactic",),
    ("model",),
    ("agent",),
    ("day",),
    ("tag:env",),
    ("tactic", "model"),
    ("agent", "day", "model", "tactic"),
    ("tag:env", "model"),
    ("tag:env", "tag:user"),
    ("model", "tag:user", "tactic"),
)


def at_other_prices(_: str, usage: Usage, __: str) -> Decimal:
    """Prices that nobody else has."""
    return Decimal(3 * usage.input + 7 * usage.output).scaleb(-9)


class AnyHistory(RuleBasedStateMachine):
    """Sessions begin, call models, end and are tagged, in any order; the store is rebuilt, checked
    and opened again in between."""

    open_sessions = Bundle("open_sessions")
    all_sessions = Bundle("all_sessions")

    @initialize(jsonl=st.booleans(), batch=st.sampled_from([3, 400]))
    def open_store(self, jsonl: bool, batch: int) -> None:
        """An empty store. Its rows are made a batch of so many events at a time: what is added up
        in one batch must not depend on where it ends."""
        self.batches = pytest.MonkeyPatch()
        self.batches.setattr(projector, "BATCH", batch)
        self.batches.setattr(rebuild, "_BATCH", batch)
        self.folder = Path(tempfile.mkdtemp())
        self.jsonl = jsonl
        self.runtime = Runtime()  # the tactics of other tests have names like these
        self.history = History(self._open())

    def _open(self) -> LogStore:
        if self.jsonl:
            return LogStore(LocalFileBackend(self.folder / "logs"), runtime=self.runtime)
        return LogStore(SQLiteBackend(self.folder / "runs.db"), runtime=self.runtime)

    @rule(
        target=open_sessions,
        tactic=st.sampled_from(TACTICS),
        partition=st.sampled_from(PARTITIONS),
        tags=TAGS,
    )
    def start_root(self, tactic: str, partition: str, tags: dict[str, str]) -> Session:
        """A tactic is called."""
        return self.history.start(tactic, partition, tags, None)

    @rule(target=open_sessions, tactic=st.sampled_from(TACTICS), tags=TAGS, parent=open_sessions)
    def start_child(self, tactic: str, tags: dict[str, str], parent: Session) -> Session:
        """A tactic calls another."""
        return self.history.start(tactic, parent.partition, tags, parent)

    @rule(session=open_sessions, attempt=ATTEMPTS)
    def call_model(self, session: Session, attempt: Attempt) -> None:
        """A session calls a model."""
        self.history.attempt(session, attempt)

    @rule(target=all_sessions, session=consumes(open_sessions), success=st.booleans())
    def finish(self, session: Session, success: bool) -> Session:
        """A session ends."""
        self.history.finish(session, success)
        return session

    @rule(session=open_sessions | all_sessions, tags=TAGS, remove=st.sampled_from([(), ("env",)]))
    def tag(self, session: Session, tags: dict[str, str], remove: tuple[str, ...]) -> None:
        """Somebody tags a session, running or ended."""
        self.history.tag(session, tags, remove)

    @rule()
    def rebuild(self) -> None:
        """Everything is built anew."""
        self.history.store.rebuild()

    @rule()
    def reopen(self) -> None:
        """Another process opens the store."""
        old = self.history.store
        self.history.store = self._open()
        for session in self.history.sessions:
            session.recorder.log = self.history.store.log
        old.close()

    def list_and_sum(
        self, tags: dict[str, str], state: str | None, tactic: str | None, partition: str | None
    ) -> None:
        """Lists are complete, exact in their order and limit; sums agree with them."""
        expected = self.history.listed(tags, state, tactic, partition)
        found = self.history.store.list_sessions(
            tags=tags, state=state, tactic_path=tactic, partition=partition
        )
        assert {one.session_id for one in found} == {one.id for one in expected}
        keys = [(one.timestamp, one.session_id) for one in found]
        assert keys == sorted(keys, reverse=True)
        some = self.history.store.list_sessions(
            tags=tags, state=state, tactic_path=tactic, partition=partition, limit=2
        )
        assert some == found[:2]
        self._sums(expected, tags, state, tactic, partition)

    def _sums(
        self,
        expected: list[Session],
        tags: dict[str, str],
        state: str | None,
        tactic: str | None,
        partition: str | None,
    ) -> None:
        # Of each: the session selected, the session that called, and the call.
        attempts = [(one, *pair) for one in expected for pair in one.all_attempts()]
        for by in GROUPINGS:
            summary = self.history.store.export_cost_summary(
                tags=tags, state=state, tactic_path=tactic, partition=partition, group_by=by
            )
            assert summary["session_count"] == len(expected)
            _is_sum_of(summary, [attempt for *_, attempt in attempts])
            _are_groups(summary["groups"], by, expected, attempts)

    @rule(tags=TAGS, tactic=st.none() | st.sampled_from(TACTICS), by=st.sampled_from(GROUPINGS))
    def price_anew(self, tags: dict[str, str], tactic: str | None, by: tuple[str, ...]) -> None:
        """At other prices, the same sessions and groups cost what their usage makes, and what is
        recorded stands beside it."""
        asked = {"tags": tags, "tactic_path": tactic, "group_by": by}
        then = self.history.store.export_cost_summary(**asked)  # type: ignore[arg-type] # its own words
        now = self.history.store.export_cost_summary(**asked, prices=at_other_prices)  # type: ignore[arg-type] # its own words
        expected = self.history.listed(tags, None, tactic, None)
        attempts = [(one, *pair) for one in expected for pair in one.all_attempts()]
        anew = [(one, session, _anew(attempt)) for one, session, attempt in attempts]
        assert now["session_count"] == len(expected)
        assert now["recorded_cost_usd"] == then["total_cost_usd"]
        _is_sum_of(now, [attempt for *_, attempt in anew])
        _are_groups(now["groups"], by, expected, anew)

    @rule(session=open_sessions | all_sessions)
    def load(self, session: Session) -> None:
        """A session's own sums are those of its attempts, and of its line in a list."""
        loaded = self.history.store.load_session(session.id)
        attempts = [attempt for _, attempt in session.all_attempts()]
        assert loaded.total_cost.cost == sum(one.cost for one in attempts) / 10**9
        assert loaded.wasted_cost.cost == sum(one.wasted for one in attempts) / 10**9
        assert loaded.total_cost.unpriced_calls == sum(one.unpriced for one in attempts)
        for line in self.history.store.list_sessions():
            if line.session_id == session.id:
                assert line.total_cost == loaded.total_cost.cost
                assert line.wasted_cost == loaded.wasted_cost.cost
                assert line.unpriced_calls == loaded.total_cost.unpriced_calls

    @rule(sort=st.sampled_from(SORTS), reverse=st.booleans(), conditions=CONDITIONS)
    def page_through(self, sort: Sort, *, reverse: bool, conditions: dict[str, str]) -> None:
        """Pages by cursor give every session once, in the order of the whole list; by cost, that is
        the most expensive first, and the newer of two that cost the same. Models and agents are
        those of the attempts in a session and below it."""
        store = self.history.store
        fitting = {
            one.id
            for one in self.history.sessions
            if not conditions
            or any(
                attempt.ended
                and all(getattr(attempt, name) == value for name, value in conditions.items())
                for _, attempt in one.all_attempts()
            )
        }
        for tactic in (None, TACTICS[0]):
            asked = {"sort": sort, "reverse": reverse, "tactic_path": tactic, **conditions}
            paged: list[SessionSummary] = []
            while page := store.list_sessions(
                limit=2, cursor=paged[-1].cursor if paged else None, **asked
            ):
                paged += page
                assert len(paged) <= len(self.history.sessions)
            assert paged == store.list_sessions(**asked)
            assert {one.session_id for one in paged} == {
                one.id for one in self.history.listed({}, None, tactic, None) if one.id in fitting
            }
            sums = {name: value for name, value in asked.items() if name not in ("sort", "reverse")}
            counted = store.export_cost_summary(**sums)["session_count"]
            assert counted == len(paged)
        began = [one.id for one in self.history.sessions]
        dearest = store.list_sessions(sort="cost")
        keys = [(one.total_cost, began.index(one.session_id)) for one in dearest]
        assert keys == sorted(keys, reverse=True)
        assert dearest[::-1] == store.list_sessions(sort="cost", reverse=True)

    @rule()
    def rebuilt_equals_live(self) -> None:
        """A rebuilt projection equals the live one, row by key."""
        assert self.history.store.rebuild(check=True).difference is None

    def teardown(self) -> None:
        """Whatever happened, every question is answered right."""
        if not hasattr(self, "history"):
            return
        try:
            self.ask_everything()
        finally:
            self.batches.undo()
            self.history.store.close()
            shutil.rmtree(self.folder)

    def calls_add_up(self) -> None:
        """Single attempts are counted and cost what the sums say."""
        store = self.history.store
        calls, total = store.list_calls(), store.export_cost_summary()
        assert sum(one.state == "success" for one in calls) == total["calls"]
        assert sum(one.state == "failure" for one in calls) == total["failed_calls"]
        assert sum(one.price == "unpriced" for one in calls) == total["unpriced_calls"]
        cost = sum(round((one.cost or 0) * 10**9) for one in calls)
        assert cost == round(total["total_cost_usd"] * 10**9)
        wasted = sum(round((one.cost or 0) * 10**9) for one in calls if one.wasted)
        assert wasted == round(total["wasted_cost_usd"] * 10**9)

    def ask_everything(self) -> None:
        """Every question, of the rows as they follow the log."""
        self.rebuilt_equals_live()
        for sort in SORTS:
            self.page_through(sort, reverse=False, conditions={})
        self.page_through("calls", reverse=True, conditions={"model": "m1", "agent": "one"})
        self.calls_add_up()
        for question in product(
            ({}, {"env": "x"}, {"env": "x", "user": "y"}, {"user": "\udc80"}),
            (None, "success", "running"),
            (None, *TACTICS),
            (None, "acme"),
        ):
            self.list_and_sum(*question)
        for tags, tactic in product(({}, {"env": "x"}), (None, *TACTICS)):
            self.price_anew(tags, tactic, ("tag:env", "model"))


Counted = tuple[Session, Session, Attempt]  # the session selected, the one that called, the call


def _anew(attempt: Attempt) -> Attempt:
    usage = attempt.usage
    nanos = None if usage is None else 3 * usage.input + 7 * usage.output
    if not attempt.priced:
        nanos = 0  # nobody said that it used anything
    return dataclasses.replace(attempt, nanos=nanos, usage=usage or NONE)


NONE = Usage()


def _is_sum_of(line: CostLine, attempts: Sequence[Attempt]) -> None:
    assert round(line["total_cost_usd"] * 10**9) == sum(one.cost for one in attempts)
    assert round(line["wasted_cost_usd"] * 10**9) == sum(one.wasted for one in attempts)
    assert line["unpriced_calls"] == sum(one.unpriced for one in attempts)
    assert line["calls"] == sum(not one.failed for one in attempts)
    assert line["failed_calls"] == sum(one.failed for one in attempts)


def _are_groups(
    groups: Sequence[CostGroup], by: Sequence[str], selected: list[Session], found: list[Counted]
) -> None:
    """Whether these are the groups of some attempts, and theirs within them. selected: the sessions
    that are counted, while only tags have been asked for."""
    if not by:
        assert groups == []
        return
    name, inner = by[0], by[1:]
    counted = name.startswith("tag:")
    keys = {_key(name, one) for one in found}
    if counted:
        keys |= {_value(name, one) for one in selected}
    assert len(groups) == len(keys)
    assert [one["total_cost_usd"] for one in groups] == sorted(
        (one["total_cost_usd"] for one in groups), reverse=True
    )
    for group in groups:
        key = None if name == "day" else group["key"]
        assert key in keys
        mine = [one for one in found if _key(name, one) == key]
        sessions = [one for one in selected if counted and _value(name, one) == key]
        _is_sum_of(group, [attempt for *_, attempt in mine])
        assert group["session_count"] == (len(sessions) or None)
        _are_groups(group["groups"], inner, sessions, mine)


def _key(group: str, counted: Counted) -> str | None:
    selected, session, attempt = counted
    if group.startswith("tag:"):
        return _value(group, selected)
    if group == "day":
        return None  # whichever it is
    return session.tactic if group == "tactic" else str(getattr(attempt, group))


def _value(group: str, session: Session) -> str | None:
    value = session.all_tags.get(group.removeprefix("tag:"))
    return value and storable(value)


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=10, stateful_step_count=30, deadline=None)
