"""How much harm is done: one number, the rounds, decides all others."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

SHORT = 30
LONG = 500


class Scale(msgspec.Struct, frozen=True):
    """How often and how long; `rounds` is the number of kills of each backend.

    seed: of all that chance decides.
    """

    rounds: int = SHORT
    seed: int = 0

    @property
    def long(self) -> bool:
        """Whether somebody asked for more than fits into a minute."""
        return self.rounds > 2 * SHORT

    @property
    def processes(self) -> int:
        """That write at once."""
        return 64 if self.long else 16

    @property
    def threads(self) -> int:
        """That share one store."""
        return 200

    @property
    def coroutines(self) -> int:
        """That run at once on one event loop."""
        return 1_000

    @property
    def sitting(self) -> float:
        """Seconds that a reader stays in the middle of a cursor."""
        return 60.0 if self.long else 2.0

    @property
    def cuts(self) -> int | None:
        """Places where an SQLite write-ahead log is cut; None for all there are."""
        return None if self.long else 60

    @property
    def examples(self) -> int:
        """Histories that the state machine makes up."""
        return self.rounds if self.long else 12

    def random(self, what: str) -> random.Random:
        """The chances of one check, the same for the same seed."""
        return random.Random(f"{self.seed} {what}")

    @contextmanager
    def told(self, round_: object) -> Iterator[None]:
        """Have what is raised inside say how to come here again."""
        try:
            yield
        except BaseException as error:
            error.add_note(f"LLLM_SURVIVAL_SEED={self.seed}, {round_}")
            raise


def asked_for() -> Scale:
    """The scale that the environment asks for."""
    return Scale(
        rounds=int(os.environ.get("LLLM_SURVIVAL_ROUNDS", SHORT)),
        seed=int(os.environ.get("LLLM_SURVIVAL_SEED", random.randrange(2**32))),
    )
