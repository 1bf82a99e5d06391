"""Any history of two processes on one store, one of which dies now and then, against a dict."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.survival.figures import Figures
from tests.survival.hands import Hand, OtherHand
from tests.survival.ledger import audit
from tests.survival.memory import Memory, seen
from tests.survival.places import KINDS, Kind, Place
from tests.survival.scale import Scale, asked_for

pytestmark = pytest.mark.slow

HERE, THERE = "here", "there"
WHOSE = st.sampled_from([HERE, THERE])
TAGS = st.dictionaries(st.sampled_from(["env", "user"]), st.sampled_from(["x", "y"]))
REMOVED = st.sampled_from([(), ("env",)])
NANOS = st.integers(0, 10**12)
PICK = st.integers(0, 1_000)  # an index into whatever there is


class TwoProcesses(RuleBasedStateMachine):
    """Both write, tag and rebuild; one closes the store and opens it again, one is killed."""

    kind: ClassVar[Kind]
    figures: ClassVar[Figures]

    @initialize()
    def open_store(self) -> None:
        """An empty store, opened in both processes."""
        self.place = Place(self.kind, Path(tempfile.mkdtemp()), segment_bytes=4_000)
        self.memory = Memory()
        self.here = Hand(self.place)
        self.there = OtherHand(self.place)

    def _do(self, whose: str, step: str, *arguments: object) -> None:
        hand = self.here if whose == HERE else self.there
        self.memory.apply(whose, step, hand.do(step, *arguments), arguments)

    # -- steps

    @rule(whose=WHOSE, tags=TAGS)
    def start(self, whose: str, tags: dict[str, str]) -> None:
        """A session begins."""
        self._do(whose, "start", "survival::a", tags, None)

    @rule(whose=WHOSE, pick=PICK)
    def start_below(self, whose: str, pick: int) -> None:
        """One begins inside another that is open."""
        if found := self.memory.open_of(whose):
            self._do(whose, "start", "survival::b", {}, found[pick % len(found)])

    @rule(whose=WHOSE, pick=PICK, nanos=NANOS)
    def attempt(self, whose: str, pick: int, nanos: int) -> None:
        """A model is called in one."""
        if found := self.memory.open_of(whose):
            self._do(whose, "attempt", found[pick % len(found)], nanos)

    @rule(whose=WHOSE, pick=PICK, success=st.booleans())
    def finish(self, whose: str, pick: int, success: bool) -> None:
        """One ends."""
        if found := self.memory.open_of(whose):
            self._do(whose, "finish", found[pick % len(found)], success)

    @rule(whose=WHOSE, pick=PICK, tags=TAGS, remove=REMOVED)
    def tag(self, whose: str, pick: int, tags: dict[str, str], remove: tuple[str, ...]) -> None:
        """Anybody tags any session."""
        if found := self._roots():
            self._do(whose, "tag", found[pick % len(found)], tags, remove)

    @rule(whose=WHOSE)
    def save_error(self, whose: str) -> None:
        """An error is saved."""
        self._do(whose, "error", "outside")

    @rule(whose=WHOSE)
    def rebuild(self, whose: str) -> None:
        """All rows are built anew."""
        self._do(whose, "rebuild")

    def _roots(self) -> list[str]:
        return [name for name, known in self.memory.sessions.items() if known.parent is None]

    # -- harm

    @rule()
    def reopen(self) -> None:
        """The store is closed here, whatever is open, and opened again."""
        self.here.close()
        self.memory.interrupt(HERE, "failure")  # nobody holds them any more, and the store says so
        self.here = Hand(self.place)

    @rule()
    def kill(self) -> None:
        """The other process is killed between two steps."""
        self._killed()

    def _killed(self) -> None:
        self.there.kill()
        type(self).figures.faults += 1
        self.memory.interrupt(THERE)
        self.there = OtherHand(self.place)

    @rule(
        step=st.sampled_from(["start", "attempt", "finish", "tag", "rebuild"]),
        pick=PICK,
        tags=TAGS,
        microseconds=st.integers(0, 4_000),
    )
    def kill_amid(self, step: str, pick: int, tags: dict[str, str], microseconds: int) -> None:
        """It is killed in the middle of a step, which is then done or not done."""
        arguments = self._arguments(step, pick, tags)
        if arguments is None:
            return
        self.there.begin(step, *arguments)
        time.sleep(microseconds / 1e6)
        done = self.memory.copy()
        self._killed()
        found = seen(self.here.store)
        if found != self.memory.picture():
            new = [str(name) for name in found.states if name not in done.sessions]
            name = new[0] if step == "start" else str(arguments[0])
            done.apply(THERE, step, name, arguments)
            done.interrupt(THERE)
            self.memory = done

    def _arguments(self, step: str, pick: int, tags: dict[str, str]) -> tuple[object, ...] | None:
        mine, roots = self.memory.open_of(THERE), self._roots()
        if step == "start":
            return ("survival::a", tags, None)
        if step == "rebuild":
            return ()
        if step == "tag":
            return (roots[pick % len(roots)], tags, ()) if roots else None
        if not mine:
            return None
        name = mine[pick % len(mine)]
        return (name, pick) if step == "attempt" else (name, bool(pick % 2))

    @precondition(lambda self: self.kind == "jsonl")
    @rule(half=st.sampled_from([b'{"stream":"half', b"\0" * 100, b'{"stream":"' + b"\0" * 9]))
    def soil(self, half: bytes) -> None:
        """Somebody dies in the middle of a write."""
        for last in sorted(self.place.path.glob("*.jsonl"))[-1:]:
            if last.read_bytes()[-1:] not in (b"", b"\n"):
                continue  # whoever writes behind one torn write has moved it aside
            with last.open("ab") as file:
                file.write(half)
            type(self).figures.faults += 1

    # -- what is to be seen

    @invariant()
    def is_as_remembered(self) -> None:
        """Lists, states, tags and sums are those of the dict."""
        if not hasattr(self, "memory"):
            return
        store = self.here.store
        assert seen(store) == self.memory.picture()
        summary = store.export_cost_summary()
        assert summary["session_count"] == len(self._roots())
        total = sum(known.nanos for known in self.memory.sessions.values())
        assert round(summary["total_cost_usd"] * 10**9) == total

    @rule(pick=PICK)
    def load(self, pick: int) -> None:
        """A session that is loaded is the one that was written, with all below it."""
        if not self.memory.sessions:
            return
        name = sorted(self.memory.sessions)[pick % len(self.memory.sessions)]
        session, known = self.here.store.load_session(name), self.memory.sessions[name]
        assert session.state == known.state
        below = [one for each in session.sub_tactic_sessions.values() for one in each]
        assert sorted(one.session_id for one in below) == sorted(
            other for other, one in self.memory.sessions.items() if one.parent == name
        )

    @rule(tags=TAGS, state=st.sampled_from([None, "success", "running", "interrupted"]))
    def filter(self, tags: dict[str, str], state: str | None) -> None:
        """Filters select what they say."""
        found = {one.session_id for one in self.here.store.list_sessions(tags=tags, state=state)}
        assert found == {
            name
            for name in self._roots()
            if tags.items() <= self.memory.sessions[name].tags.items()
            and state in (None, self.memory.sessions[name].state)
        }

    @rule()
    def rebuilt_equals_live(self) -> None:
        """The rows are those of a rebuild."""
        assert self.here.store.rebuild(check=True).difference is None

    def teardown(self) -> None:
        """Whatever happened, the log is whole."""
        if not hasattr(self, "memory"):
            return
        try:
            self._killed()
            self.is_as_remembered()
            self.rebuilt_equals_live()
            figures = type(self).figures
            audit(self.here.store.backend, (), figures)
            figures.rounds += 1
            figures.acknowledged += sum(1 for _ in self.here.store.backend.read())
            for error in self.memory.errors:
                assert len(list(self.here.store.events(error))) == 1
        finally:
            self.there.kill()
            self.here.close()
            shutil.rmtree(self.place.folder)


def any_history(scale: Scale, kind: Kind) -> Figures:
    """As many histories as the scale says."""

    class Machine(TwoProcesses):
        figures = Figures(f"machine {kind}")

    Machine.kind = kind
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=scale.examples,
            stateful_step_count=30,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate,),  # to try a history again takes long, and processes differ
            report_multiple_bugs=False,
        ),
    )
    return Machine.figures.whole()


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_are_one_dict(kind: Kind) -> None:
    """After any history, with one of the processes killed anywhere in it, every question about the
    store is answered as by a dict that was told the same."""
    assert any_history(asked_for(), kind).rounds > 0
