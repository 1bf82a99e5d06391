"""SIGKILL at random points: nothing that was acknowledged is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from lllm.events.backends.sqlite.database import Durability
from tests.survival.figures import Figures
from tests.survival.kept import ended, states
from tests.survival.ledger import Entry, audit, entries
from tests.survival.places import DURABILITIES, KINDS, Kind, Place
from tests.survival.scale import Scale, asked_for
from tests.survival.writers import JOBS, any_death, killed, outer

pytestmark = pytest.mark.slow

_ROUNDS_A_STORE = 6  # then a new one, so that its beginning is met, too


def kill(scale: Scale, folder: Path, kind: Kind, durability: Durability) -> Figures:
    """Kill one writer after another, in the middle of whatever it does to a store."""
    figures = Figures(f"kill {kind}, {durability}")
    chance = scale.random(figures.what)
    place = Place(kind, folder / "store", durability)
    told: list[Entry] = []
    for number in range(-(-scale.rounds // len(DURABILITIES))):
        if number % _ROUNDS_A_STORE == 0:
            place, told = place.next(number), []
        job, death = chance.choice(JOBS), any_death(chance)
        ledger = place.folder / f"ledger-{number}"
        with scale.told(f"{figures.what}, round {number}: {job.__name__}, {death}"):
            killed(job, place, ledger, death)
            new = entries(ledger)
            told += new
            survived(place, told, figures)
        figures.rounds += 1
        figures.faults += 1
        figures.acknowledged -= len(told) - len(new)  # those of earlier rounds are counted already
    return figures.whole()


def survived(place: Place, told: list[Entry], figures: Figures) -> None:
    """The log is whole, the dead are interrupted, the rows are those of a rebuild, and a new
    process goes on."""
    with place.store() as store:
        assert store.list_sessions(state="running") == []
        audit(store.backend, told, figures)
        assert states(store) == ended(store)
        for one in store.list_sessions(state="interrupted", limit=2):
            session = store.load_session(one.session_id)
            assert session.state == "interrupted"
        assert store.rebuild(check=True).difference is None
        outer(store)("the living go on")
        (latest,) = store.list_sessions(limit=1)
        assert latest.state == "success"
        assert store.lag == 0


@pytest.mark.parametrize("durability", DURABILITIES)
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_acknowledged_is_lost(tmp_path: Path, kind: Kind, durability: Durability) -> None:
    """Wherever a writer is killed, each event it was told of is there once and in order with its
    digest, what it left running is interrupted, and the rows are those of a rebuild."""
    assert kill(asked_for(), tmp_path, kind, durability).acknowledged > 0
