"""Lists, sums and rebuilds, against a reader who remembers everything; after any history."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from itertools import product
from pathlib import Path

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
from lllm.projections.view import storable
from tests.histories import Attempt, History, Session

TACTICS = ("a", "p::b")
TAGS = st.dictionaries(st.sampled_from(["env", "user"]), st.sampled_from(["x", "y", "\udc80"]))
PARTITIONS = ("", "acme")
ATTEMPTS = st.builds(
    Attempt,
    model=st.sampled_from(["m1", "m2"]),
    agent=st.sampled_from(["one", "two"]),
    nanos=st.none() | st.integers(0, 10**12),
    failed=st.booleans(),
    usage=st.none() | st.builds(Usage, input=st.integers(0, 10**6), output=st.integers(0, 10**6)),
)


class AnyHistory(RuleBasedStateMachine):
    """Sessions begin, call models, end and are tagged, in any order; the store is rebuilt, checked
    and opened again in between."""

    open_sessions = Bundle("open_sessions")
    all_sessions = Bundle("all_sessions")

    @initialize(jsonl=st.booleans())
    def open_store(self, jsonl: bool) -> None:
        """An empty store."""
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
        attempts = [pair for one in expected for pair in one.all_attempts()]
        for group_by in ("tactic", "model", "agent", "tag:env"):
            summary = self.history.store.export_cost_summary(
                tags=tags, state=state, tactic_path=tactic, partition=partition, group_by=group_by
            )
            assert summary["session_count"] == len(expected)
            assert round(summary["total_cost_usd"] * 10**9) == sum(map(_nanos, attempts))
            groups: Counter[str] = Counter()
            for session, attempt in attempts:
                if group_by == "tactic":
                    groups[session.tactic] += _nanos((session, attempt))
                elif group_by != "tag:env":
                    groups[getattr(attempt, group_by)] += _nanos((session, attempt))
            found = {
                group["key"]: round(group["total_cost_usd"] * 10**9) for group in summary["groups"]
            }
            assert sum(found.values()) == sum(map(_nanos, attempts))
            if group_by != "tag:env":
                assert {key: nanos for key, nanos in found.items() if nanos} == dict(+groups)
        by_tag: dict[str | None, tuple[int, int]] = {}
        for one in expected:
            value = one.all_tags.get("env") and storable(one.all_tags["env"])
            sessions, nanos = by_tag.get(value, (0, 0))
            by_tag[value] = (sessions + 1, nanos + sum(map(_nanos, one.all_attempts())))
        assert by_tag == {
            group["key"]: (group["session_count"], round(group["total_cost_usd"] * 10**9))
            for group in summary["groups"]
        }

    @rule()
    def page_through(self) -> None:
        """Pages by cursor give every session once, in the order of the whole list."""
        store = self.history.store
        paged: list[str] = []
        cursor = None
        while page := store.list_sessions(limit=2, cursor=cursor):
            paged += [one.session_id for one in page]
            cursor = page[-1].cursor
        assert paged == [one.session_id for one in store.list_sessions()]

    @rule()
    def rebuilt_equals_live(self) -> None:
        """A rebuilt projection equals the live one, row by key."""
        assert self.history.store.rebuild(check=True).difference is None

    def teardown(self) -> None:
        """Whatever happened, every question is answered right."""
        if not hasattr(self, "history"):
            return
        self.rebuilt_equals_live()
        self.page_through()
        for question in product(
            ({}, {"env": "x"}, {"env": "x", "user": "y"}, {"user": "\udc80"}),
            (None, "success", "running"),
            (None, *TACTICS),
            (None, "acme"),
        ):
            self.list_and_sum(*question)
        self.history.store.close()
        shutil.rmtree(self.folder)


def _nanos(pair: tuple[Session, Attempt]) -> int:
    attempt = pair[1]
    if attempt.failed and attempt.usage is None:
        return 0
    return attempt.nanos or 0


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
