"""Prose of a wanted length, made of few words: it compresses and reads like what people send."""

from __future__ import annotations

import random

_PROSE = (
    "the order was placed on Monday and has not arrived customers who ask about refunds expect an "
    "answer within a day the table shows revenue by region for each quarter please summarise what "
    "changed between versions and say which of them is risky according to this source it depends"
)
WORDS = tuple(_PROSE.split())
_WORD_BYTES = sum(map(len, WORDS)) / len(WORDS) + 1  # with the space behind it
_POOL_BYTES = 4 << 20  # that all texts of a pool may take together
_POOL = 2_000  # texts


def text_of(chance: random.Random, length: int) -> str:
    """A text of just so many characters, all of them ASCII."""
    words = chance.choices(WORDS, k=int(length / _WORD_BYTES) + 1)
    text = " ".join(words)
    while len(text) < length:
        text += " " + chance.choice(WORDS)
    return text[:length]


def pool(chance: random.Random, length: int) -> list[str]:
    """Texts that differ in length as those of people do, with `length` in the middle."""
    count = max(50, min(_POOL, _POOL_BYTES // length))
    return [text_of(chance, _round(chance.lognormvariate(0, 0.6) * length)) for _ in range(count)]


def _round(length: float) -> int:
    return max(1, round(length))
