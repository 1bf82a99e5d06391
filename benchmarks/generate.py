"""Stores like those of a team that has used lllm for a month, made in bulk.

The events are the Structs of `lllm.events.model`, encoded and sealed as a Recorder does it, and
appended by the thousand. A few sessions are always under way at once, so their events lie between
each other's in the log. The same seed makes the same store, but for salts and ids.

What is realistic: about 24 events a session, messages of about 500 bytes, three tags of which one
is rare, tactics that some call much more than others, children in one session of eight, failed
calls, failed sessions, and tags that somebody added later.
"""

from __future__ import annotations

import itertools
import random
import time as clock
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import msgspec

from benchmarks.generated_events import AGENT, DEFINITION, Material, Moment, conversation, glance
from benchmarks.generated_tags import APART as APART  # for those that read such a store
from benchmarks.generated_tags import Tagger, Tags, cycle
from benchmarks.generated_texts import WORDS as WORDS
from lllm.events import codec
from lllm.events.digest import seal
from lllm.events.envelope import NewEvent
from lllm.events.ids import new_id, new_salt
from lllm.events.log import LogBackend
from lllm.events.model import Ancestor, Event, SessionTagged

BEGIN = 1_767_225_600_000_000_000  # 2026-01-01, in nanoseconds UTC
MONTH = 30 * 86_400_000_000_000
MESSAGE_BYTES = {"usual": 500, "small": 60}  # of a message, in the middle
LONG_AGENTS = 90  # of a long session, for about a thousand events
CHILD = "shop::lookup"

Shape = Literal["usual", "small"]
Progress = Callable[[int], object]  # told how many top-level sessions have begun
Append = Callable[[Sequence[NewEvent]], object]

_APPENDED = 5_000  # events appended at once
_AT_ONCE = 6  # sessions under way
_REPORTED = 1_000  # sessions between two reports of progress
_TACTICS = {
    "shop::analyzer": 50,
    "shop::support": 25,
    "lab::researcher": 15,
    "lab::judge": 7,
    "ops::digest": 3,
}


class Generated(msgspec.Struct, frozen=True):
    """What was made: roots, all sessions with the children, events and bytes of payload."""

    roots: int
    sessions: int
    events: int
    payload_bytes: int


def fill(
    log: LogBackend,
    roots: int,
    *,
    seed: int = 1,
    shape: Shape = "usual",
    message_bytes: int | None = None,
    long: int = 0,
    halves: bool = False,
    progress: Progress | None = None,
) -> Generated:
    """Append the events of `roots` top-level sessions, and of their children, to a log.

    shape: "small" for sessions of four events each, without children. message_bytes: of a message,
    in the middle; None for what the shape has. long: how many of the sessions have about a thousand
    events, spread evenly. halves: two tags more, see `generated_tags`.
    """
    chance = random.Random(seed)
    writer = _Writer(log.append)
    material = Material(chance, message_bytes or MESSAGE_BYTES[shape])
    made = _Sessions(material, Tagger(chance, halves=halves), shape)
    writer.write(BEGIN, DEFINITION, b"", 1, AGENT)
    waiting = (
        made.session(writer, BEGIN + MONTH * n // roots, agents=LONG_AGENTS if is_long else 2)
        for n, is_long in enumerate(_spread(long, roots))
    )
    running = list(itertools.islice(waiting, _AT_ONCE))
    begun = len(running)
    while running:
        place = int(chance.random() * len(running))
        if next(running[place], None) is None:
            following = next(waiting, None)
            if following is None:
                del running[place]
                continue
            running[place] = following
            begun += 1
            if progress is not None and begun % _REPORTED == 0:
                progress(begun)
    writer.flush()
    return Generated(roots, made.count, writer.events, writer.bytes)


def _spread(some: int, among: int) -> Iterator[bool]:
    """Of each in turn, whether it is one of `some`."""
    return (number * some // among > (number - 1) * some // among for number in range(1, among + 1))


def one_session(log: LogBackend, number: int, *, agents: int = 2) -> str:
    """Append one more session, the `number`th after those of `fill`, in one append; returns its id.

    agents: each makes about eleven events.
    """
    chance = random.Random(number)
    writer = _Writer(log.append)
    time = BEGIN + MONTH + number * 1_000_000_000
    stream, salt = new_id(time), new_salt()
    material = Material(chance, MESSAGE_BYTES["usual"])
    seq = itertools.count(1)
    for moment in conversation(CHILD, salt, material, tags=Tagger(chance).tags(), agents=agents):
        for event in moment:
            writer.write(time, stream, salt, next(seq), event)
    writer.flush()
    return stream


def appends(seed: int) -> Iterator[list[NewEvent]]:
    """What a Recorder would append now, one append after another, of one session after another,
    without end. The definition that they refer to is not among them."""
    chance = random.Random(seed)
    material = Material(chance, MESSAGE_BYTES["usual"])
    tagger = Tagger(chance)
    while True:
        stream, salt = new_id(), new_salt()
        tactic = chance.choice(tuple(_TACTICS))
        kept: list[NewEvent] = []
        writer = _Writer(kept.extend)
        seq = itertools.count(1)
        for moment in conversation(tactic, salt, material, tags=tagger.tags()):
            for event in moment:
                writer.write(clock.time_ns(), stream, salt, next(seq), event)
            writer.flush()
            yield kept.copy()
            kept.clear()


class _Writer:
    """Seals events and appends them many at a time."""

    def __init__(self, append: Append) -> None:
        self.events = 0
        self.bytes = 0
        self._append = append
        self._waiting: list[NewEvent] = []

    def write(self, time: int, stream: str, salt: bytes, seq: int, event: Event) -> None:
        """The event `seq` of a stream."""
        data = codec.encode(event)
        self._waiting.append(seal(salt, stream, seq, time, event.type, event.version, data))
        self.events += 1
        self.bytes += len(data)
        if len(self._waiting) >= _APPENDED:
            self.flush()

    def flush(self) -> None:
        """Append what waits."""
        self._append(self._waiting)
        self._waiting = []


class _Sessions:
    """Makes sessions, each an iterator that writes one moment of it at every step."""

    def __init__(self, material: Material, tagger: Tagger, shape: Shape) -> None:
        self.count = 0
        self._material = material
        self._tagger = tagger
        self._small = shape == "small"
        self._tactics = cycle(material.chance, _TACTICS)

    def session(
        self, writer: _Writer, time: int, above: tuple[Ancestor, ...] = (), *, agents: int
    ) -> Iterator[bool]:
        """Write one session, with its children in the middle; yields after each moment."""
        self.count += 1
        chance = self._material.chance
        stream, salt = new_id(time), new_salt()
        tactic = CHILD if above else next(self._tactics)
        tags = {} if above else self._tagger.tags()
        seq = itertools.count(1)
        child_at = 0 if above or self._small or chance.random() >= 0.12 else 3
        for number, moment in enumerate(self._moments(tactic, salt, tags, above, agents), 1):
            for event in moment:
                writer.write(time, stream, salt, next(seq), event)
            time += 20_000_000 + int(chance.random() * 1_980_000_000)
            yield True
            if number == child_at:
                lineage = (*above, Ancestor(stream, tactic))
                yield from self.session(writer, time, lineage, agents=2)
        if chance.random() < 0.02:
            tagged = SessionTagged(about=stream, set={"reviewed": "yes"}, by="alice", salt=salt)
            writer.write(time, f"tagged-{new_id(time)}", salt, 1, tagged)

    def _moments(
        self, tactic: str, salt: bytes, tags: Tags, above: tuple[Ancestor, ...], agents: int
    ) -> Iterator[Moment]:
        if self._small and agents <= 2:
            return glance(tactic, salt, self._material, tags=tags, ancestors=above)
        return conversation(tactic, salt, self._material, tags=tags, ancestors=above, agents=agents)
