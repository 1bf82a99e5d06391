"""The tags of the sessions that are generated, and the sets of sessions that lists are tried on.

Three tags a session as a team would set them, each skewed: few environments, forty experiments, a
thousand users. With `halves` there are two more, the region and its currency: each cuts the
sessions in two, and one half of the one never meets one half of the other.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping

Tags = dict[str, str]
Tag = tuple[str, str]

# Two tags that never meet; each has a good share of all sessions.
APART: tuple[Tag, Tag] = (("env", "staging"), ("experiment", "v2"))
# Two that never meet and have half of all sessions each, where `halves` was asked for.
HALVES: tuple[Tag, Tag] = (("region", "eu"), ("currency", "USD"))

USER = "user"
USERS = 1_000
_ENVIRONMENTS = {"prod": 80, "staging": 15, "dev": 5}
_EXPERIMENTS = {f"v{n}": 120 // n for n in range(1, 41)}
_USER_WEIGHTS = {f"user-{n}": 6_000 // n + 1 for n in range(1, USERS + 1)}
_CURRENCIES = {"eu": "EUR", "us": "USD"}


def user_of_at_most(sessions: int, roots: int) -> str:
    """The user whom the most sessions belong to, of those who have at most `sessions`, in a store
    of `roots` top-level sessions."""
    total = sum(_USER_WEIGHTS.values())
    for name, weight in _USER_WEIGHTS.items():
        expected = roots * weight / total
        if expected + 4 * expected**0.5 <= sessions:  # four standard deviations
            return name
    return f"user-{USERS}"


class Tagger:
    """The tags of one top-level session after another."""

    def __init__(self, chance: random.Random, *, halves: bool = False) -> None:
        self._environments = cycle(chance, _ENVIRONMENTS)
        self._experiments = cycle(chance, _EXPERIMENTS)
        self._users = cycle(chance, _USER_WEIGHTS)
        self._regions = cycle(chance, {"eu": 1, "us": 1}) if halves else None

    def tags(self) -> Tags:
        """Those of the next session."""
        env, experiment = next(self._environments), next(self._experiments)
        if {"env": env, "experiment": experiment}.items() == dict(APART).items():
            experiment = "v1"
        tags = {"env": env, "experiment": experiment, USER: next(self._users)}
        if self._regions is not None:
            region = next(self._regions)
            tags |= {"region": region, "currency": _CURRENCIES[region]}
        return tags


def cycle(chance: random.Random, weights: Mapping[str, int]) -> Iterator[str]:
    """Names in random order, each as often as its weight says, without end."""
    while True:
        yield from chance.choices(tuple(weights), tuple(weights.values()), k=10_000)
