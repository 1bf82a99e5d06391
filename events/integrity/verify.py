"""Verifies that a log still holds exactly the events that were written to it.

Every readable event is checked against its digest, and its seq against the events before it in its
stream: 1, 2, 3 ... without gaps. The last event of a session is checked against all its events (see
`session_root`). Each damage is reported with its place, and the check continues after it.

It finds: any change of an event, in any field; events in the middle of a stream that are missing,
doubled or out of order; parts of the log that can't be read; in an SQLite log, every row that was
removed; in a JSONL log, a file in the middle that is missing, or whose length does not match the
name of the next file.

It can't find the following (NOT_COVERED), because the log itself does not prove its order and its
end. (1) Complete appends of different streams that have changed places. (2) A missing end of an
SQLite log, as when an older copy replaces it; the lock file of a JSONL log shows how long the log
was, unless it is an older copy, too. (3) A changed number of lines that were appended together in a
JSONL file, if the changed number is possible, too; the events are unharmed then. (4) A change made
on purpose: whoever can write the log can write matching digests. To find that, use signatures, or a
digest of the whole log that is kept elsewhere.

Known trade-off (accepted): a number is kept in memory for each stream, about 80 MB for a million
streams, so that a repeated line is distinguished from a new one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from typing import cast

import msgspec

from lllm.events import codec
from lllm.events.backend import LogBackend, Progress
from lllm.events.damage import Damage, Readable, readable
from lllm.events.digest import ERASED, StreamDigests, commitment_of_erased
from lllm.events.envelope import Recorded
from lllm.events.integrity.archived import ArchivedEvents
from lllm.events.integrity.merkle import RightEdge
from lllm.events.integrity.session_root import ENDS, root_problem
from lllm.events.integrity.verified_tree import VerifiedTree
from lllm.events.model import (
    AgentDefined,
    ErrorRecorded,
    LogGap,
    SessionAnnotated,
    SessionArchived,
    SessionErased,
    SessionFailed,
    SessionHeld,
    SessionInterrupted,
    SessionReleased,
    SessionRestored,
    SessionSucceeded,
    SessionTagged,
)

# No event may follow these in their stream.
_LAST = {
    kind.type
    for kind in (
        SessionSucceeded, SessionFailed, SessionInterrupted, SessionTagged,
        SessionAnnotated, SessionHeld,
        SessionReleased, SessionErased, SessionArchived, SessionRestored, AgentDefined,
        ErrorRecorded, LogGap,
    )
}  # fmt: skip
_REMOVALS = (SessionErased.type, SessionArchived.type, SessionRestored.type)
_ENDED = -1
_DIGESTS = 512  # the most digests that are kept for a stream before they go to its tree
_AT_ONCE = 1_000  # events that are checked at once, while the cache of the processor has them
_REPORTED = 4_096  # events between two reports of progress

NOT_COVERED = (
    "unknown without an earlier seal (--checkpoint). This check does not find sessions in another "
    "order, or a missing end of the log."
)


class Verified(msgspec.Struct, frozen=True):
    """The result of verifying a log.

    Attributes:
        events: The number of events that could be read.
        streams: The number of streams of these events; a stream is a session or a statement.
        damages: The damage, in the order in which it was found.
        unchecked: The number of events whose digest can't be checked, because the salt in the first
            event of their stream is lost.
        lost: The number of events that were never written, as the log itself records (log.gap);
            this is not damage.
        torn_bytes: The number of bytes at the end of a JSONL log that are the beginning of an
            append, or zeros: its writer died, or the end of a file was cut off. The next append
            moves them aside.
        set_aside: The files to which such bytes were moved, until a person has looked at them and
            removed them.
        archived: The number of events that left the log for an archive; their digests are in the
            log, and are checked.
        not_covered: What no check of this log alone can find, as a text for users.
    """

    events: int
    streams: int
    damages: tuple[Damage, ...]
    unchecked: int
    lost: int
    torn_bytes: int
    set_aside: tuple[str, ...] = ()
    archived: int = 0
    not_covered: str = NOT_COVERED

    @property
    def is_sound(self) -> bool:
        """True if nothing was found that needs attention."""
        return not (self.damages or self.torn_bytes or self.set_aside)


def verify(
    log: LogBackend, *, progress: Progress | None = None, tree: VerifiedTree | None = None
) -> Verified:
    """Read a whole log and check every event; damage does not stop the check.

    Args:
        log: The backend itself. Others may write to the log meanwhile; events that they append are
            not checked.
        progress: A function that is called now and then with the position that was reached and the
            last position; None for no reports.
        tree: A tree that gets every event and every damage, so that the log need not be read again
            for it; None for none.

    Returns:
        What was found.

    Raises:
        LogError: The log can't be read at all.
    """
    found = readable(log)
    archived = ArchivedEvents(log, found.upto, tree)
    leaves = _Leaves(tree, archived)
    check = _Check(archived)
    count = 0
    for events in _in_parts(found):
        if isinstance(events, Damage):
            check.damages.append(events)
            leaves.damage(events.position)
            continue
        check.take(events)
        leaves.take(events)
        before, count = count, count + len(events)
        if progress is not None and before // _REPORTED < count // _REPORTED:
            progress(events[-1].position, found.upto)
    archived.pass_to(found.upto + 1)
    check.end()
    check.damages += archived.damages()
    # If events are missing within the last file, it also ends too early.
    if found.lost_end and all(one.position <= found.last_begin for one in check.damages):
        check.damages.append(found.lost_end)
    if progress is not None:
        progress(found.upto, found.upto)
    return Verified(
        count, check.streams, tuple(check.damages), check.unchecked, check.lost, found.torn_bytes,
        found.set_aside, archived.count,
    )  # fmt: skip


def _in_parts(found: Readable) -> Iterator[Sequence[Recorded] | Damage]:
    """Yield the events of a log in parts of up to a thousand, and each damage in its place."""
    rest = iter(found)
    while part := list(islice(rest, _AT_ONCE)):
        if Damage not in map(type, part):
            yield cast(list[Recorded], part)  # each of them: damage is rare
            continue
        for is_damage, those in groupby(part, key=lambda one: isinstance(one, Damage)):
            if is_damage:
                yield from cast(Iterator[Damage], those)
            else:
                yield cast(list[Recorded], list(those))


class _Leaves:
    """Passes all leaves to a tree, in order; the tree may be None."""

    def __init__(self, tree: VerifiedTree | None, archived: ArchivedEvents) -> None:
        self._tree = tree
        self._archived = archived

    def take(self, events: Sequence[Recorded]) -> None:
        """Take the next events, and archived ones that stood between them."""
        while events:
            due = self._archived.due
            end = len(events)
            if events[-1].position > due:
                end = next(n for n, event in enumerate(events) if event.position > due)
            if self._tree is not None:
                self._tree.events(events[:end])
            events = events[end:]
            if events:
                self._archived.pass_to(events[0].position)

    def damage(self, position: int) -> None:
        self._archived.pass_to(position)
        if self._tree is not None:
            self._tree.damage(position)


class _Stream:
    """The state of one stream during the check.

    seq: the number of its last event so far, _ENDED if no event may follow. proven: a digest
    matched with the salt. told: there is no salt to check with, and this was reported, or need not
    be. tree: the tree over the digests of the events so far. digests: the last of these digests,
    which are not in the tree yet; None after an event that did not match or was missing.
    """

    __slots__ = ("digests", "leaf", "proven", "salt", "seq", "time", "told", "tree")

    def __init__(self, salt: bytes, name: str) -> None:
        self.salt = salt
        self.leaf = StreamDigests(salt, name).leaf
        self.proven = False
        self.told = False
        self.seq = 0
        self.time: int | None = None
        self.tree: RightEdge | None = None
        self.digests: list[bytes] | None = []

    def whole_tree(self) -> RightEdge | None:
        """The tree over all events so far; None if an event is missing from it."""
        if self.digests is None:
            return None
        if self.tree is None:
            self.tree = RightEdge()
        self.tree.extend(self.digests)
        self.digests.clear()
        return self.tree


class _Gap(msgspec.Struct):
    """Events that were never written; times are nanoseconds UTC."""

    lost: int
    first_time: int
    last_time: int


class _Check:
    """Checks each event against those before it."""

    def __init__(self, archived: ArchivedEvents) -> None:
        self._archived = archived
        self.streams = 0
        self.unchecked = 0
        self.lost = 0
        self.damages: list[Damage] = []
        self._open: dict[str, _Stream] = {}
        self._ended: set[int] = set()
        self._gaps: list[_Gap] = []
        self._erased: dict[str, Recorded] = {}  # the first erased event of each stream
        # together with the root that they contain
        self._erasures: dict[str, tuple[Recorded, str | None]] = {}
        self._wholes: dict[str, str] = {}  # the roots of sessions that were erased whole
        self._meant: set[str] = set()  # the streams that were erased on purpose

    def take(self, events: Sequence[Recorded]) -> None:
        """Check the next events of the log, in order."""
        opened = self._open
        for event in events:
            try:
                stream = opened.get(event.stream) or self._begin(event)
                committed = None
                if event.data.startswith(ERASED):
                    committed = commitment_of_erased(event.data)
                digest = event.digest
                fits = digest == stream.leaf(event, committed)
            except (AttributeError, TypeError, UnicodeEncodeError, struct.error):
                self._damage(event, "one of its fields has a wrong type")
                continue
            digests = stream.digests
            if (
                fits
                and committed is None
                and digests is not None
                and event.seq == stream.seq + 1
                and event.type not in _LAST
            ):  # true for nearly all events
                stream.seq += 1
                stream.proven = True
                stream.time = event.time
                digests.append(digest)
                if len(digests) == _DIGESTS:
                    stream.whole_tree()
            else:
                self._event(event, stream, committed, fits=fits)

    def _event(
        self, event: Recorded, stream: _Stream, committed: bytes | None, *, fits: bool
    ) -> None:
        """Check an event that is the last of its stream, was erased, or has something wrong."""
        if committed is not None:
            self._erased.setdefault(event.stream, event)
        if fits:
            stream.proven = True
        elif not self._can_not_be_checked(event, stream):
            stream.digests = None
            if event.seq == stream.seq + 1:
                # the position and seq of an event that does not match can't be trusted
                stream.seq = event.seq
            return
        if event.seq == stream.seq + 1:
            stream.seq = event.seq
            self._grow(event, stream, fits)
        else:
            stream.digests = None
            self._misplaced(event, stream)
        stream.time = event.time
        if event.type in _LAST:
            self._end(event)

    def _grow(self, event: Recorded, stream: _Stream, fits: bool) -> None:
        """Append an event to the tree of its stream, and check the root in a last event."""
        if stream.digests is None or not fits:
            stream.digests = None
            return
        if event.type in ENDS:
            tree = stream.whole_tree()
            problem = None if tree is None else root_problem(codec.decode(event), tree)
            if problem is not None:
                self._damage(event, problem)
            if tree is not None and event.stream in self._erased:
                whole = tree.copy()
                whole.extend([event.digest])
                self._wholes[event.stream] = whole.root().hex()
            return
        stream.digests.append(event.digest)
        if len(stream.digests) == _DIGESTS:
            stream.whole_tree()

    def end(self) -> None:
        """Check, after the last event, that each erased payload belongs to a `session.erased`."""
        for stream, event in self._erased.items():
            if stream not in self._meant:
                self._damage(event, "its payload was erased, but no session.erased says so")
        for about, (event, digests) in self._erasures.items():
            if digests is not None and self._wholes.get(about, digests) != digests:
                self._damage(event, f"the events of {about} are not those that were erased")

    def _begin(self, event: Recorded) -> _Stream:
        stream = self._open[event.stream] = _Stream(codec.salt_of(event), event.stream)
        if hash(event.stream) in self._ended:
            stream.seq, stream.told = _ENDED, True
            return stream
        self.streams += 1
        # If this is not the first event, the salt is lost, unless there never was one.
        stream.told = event.seq != 1 and not stream.salt
        return stream

    def _can_not_be_checked(self, event: Recorded, stream: _Stream) -> bool:
        """True if a digest can't be checked because the salt is lost."""
        if event.stream in self._erased and not stream.salt:
            self._damage(
                event,
                "it was written after its session was erased, so its digest can't be checked",
            )
            self.unchecked += 1
            return True
        if stream.proven or (stream.seq == 0 and not stream.told):
            self._damage(event, "it is not what was written: its digest does not fit its content")
            return False
        self.unchecked += 1
        if not stream.told:
            stream.told = True
            self._damage(
                event,
                "neither its digest nor those of the later events of its stream can be checked: "
                "that needs the salt in the first event of the stream, which is damaged",
            )
        return True

    def _misplaced(self, event: Recorded, stream: _Stream) -> None:
        if stream.seq == _ENDED:
            self._damage(event, "it comes after the last event of its stream")
        elif event.seq > stream.seq:
            first, last = stream.seq + 1, event.seq - 1
            if not self._is_known_lost(last + 1 - first, event, stream):
                those = f"event {first}" if first == last else f"events {first} to {last}"
                verb = "is" if first == last else "are"
                self._damage(event, f"{those} of its stream {verb} missing before it")
            stream.seq = event.seq
        elif event.seq == stream.seq:
            self._damage(event, "it is in the log twice")
        else:
            self._damage(event, f"it comes after event {stream.seq} of its stream, out of order")

    def _is_known_lost(self, count: int, event: Recorded, stream: _Stream) -> bool:
        """True if the log itself records the loss of the events missing before one."""
        begin, end = sorted((event.time, event.time if stream.time is None else stream.time))
        for gap in self._gaps:
            began = stream.time is None or begin <= gap.last_time
            if count <= gap.lost and began and gap.first_time <= end:
                gap.lost -= count
                return True
        return False

    def _end(self, event: Recorded) -> None:
        del self._open[event.stream]
        self._ended.add(hash(event.stream))
        if event.type == LogGap.type:
            gap = codec.decode(event)
            if isinstance(gap, LogGap):
                self.lost += gap.lost
                self._gaps.append(_Gap(gap.lost, gap.first_time, gap.last_time))
        if event.type in _REMOVALS:
            left = codec.decode(event)
            if isinstance(left, SessionErased):
                self._meant |= {left.about, *left.streams}
                self._erasures[left.about] = event, None if left.positions else left.digests
            if isinstance(left, SessionErased | SessionArchived | SessionRestored):
                self._archived.said(event, left)

    def _damage(self, event: Recorded, what: str) -> None:
        self.damages.append(Damage.of(event, what))
