"""SIGKILL at random points of writers to PostgreSQL: nothing that was acknowledged is lost."""

from __future__ import annotations

import random
import time
from pathlib import Path

import msgspec
import pytest

from lllm import LogStore, PostgresBackend
from lllm.events.backends.postgres import server_liveness
from tests.support.postgres import new_schema, server
from tests.support.waiting import HANG
from tests.survival.figures import Figures
from tests.survival.kept import ended
from tests.survival.ledger import Entry, audit, entries
from tests.survival.scale import asked_for
from tests.survival.writers import JOBS, Death, any_death, killed, outer

pytestmark = pytest.mark.slow

_ROUNDS = 8
_SILENCE = 1  # seconds without a word after which the dead are found


class PostgresPlace(msgspec.Struct, frozen=True):
    """A store on a server, as every process knows it."""

    url: str

    def backend(self) -> PostgresBackend:
        """The log, opened anew."""
        return PostgresBackend(self.url)

    def store(self) -> LogStore:
        """The store, opened anew."""
        return LogStore(self.backend())


def a_death(chance: random.Random) -> Death:
    """One that may come anywhere, mostly after the connection is made."""
    return chance.choice(
        [
            any_death(chance),
            Death(seconds=chance.uniform(0.3, 3)),
            Death(events=chance.randint(1, 150)),
        ]
    )


@pytest.mark.parametrize("partition_by", [None, "month"])
def test_nothing_acknowledged_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, partition_by: str | None
) -> None:
    """Wherever a writer is killed, each event it was told of is there once and in order with its
    digest, what it left running is interrupted, and the rows are those of a rebuild."""
    monkeypatch.setattr(server_liveness, "SILENCE", _SILENCE)
    chance = asked_for().random(f"kill postgres {partition_by}")
    option = f"&partition_by={partition_by}" if partition_by else ""
    place = PostgresPlace(server().url(new_schema()) + option)
    place.backend().head()
    told: list[Entry] = []
    for number in range(_ROUNDS):
        job, death = chance.choice(JOBS), a_death(chance)
        ledger = tmp_path / f"ledger-{number}"
        killed(job, place, ledger, death)  # type: ignore[arg-type]
        told += entries(ledger)
        until = time.monotonic() + HANG
        with place.store() as store:
            figures = Figures("kill postgres")
            while store.list_sessions(state="running"):  # until the silence is long enough
                assert time.monotonic() < until
                time.sleep(0.2)
            audit(store.backend, told, figures)
            figures.whole()
            rows = store._rows.database.query("SELECT id, state FROM sessions")
            assert {row[0]: row[1] for row in rows} == ended(store)
            assert store.rebuild(check=True).difference is None
            outer(store)("the living go on")
            assert store.list_sessions(limit=1)[0].state == "success"
            assert store.lag == 0
    assert told
