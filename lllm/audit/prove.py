"""Makes proofs: files that show that a session, or an event of it, stands in a log.

A session that ended carries the number and the root of its events in its last event, so one leaf
proves the whole session. Elsewhere, each event is proven by its own leaf: in a session that has not
ended, in later statements about a session, and where payloads are not shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from lllm.audit.base64_text import encoded
from lllm.audit.checkpoint import LogCheckpoint, parse_checkpoint
from lllm.audit.keys import PublicKey
from lllm.audit.log_tree import LogTree
from lllm.audit.proof import FORMAT, HOW, LARGEST, Proof, ProofEvent, ProofStream, shown
from lllm.audit.signed_note import decode_text, is_signed, parse_note, verify_note
from lllm.events import codec
from lllm.events.digest import commitment, commitment_of_erased
from lllm.events.envelope import Recorded
from lllm.events.errors import AuditError
from lllm.events.integrity.common_proof import common_proof
from lllm.events.integrity.merkle import RightEdge, read_root
from lllm.events.integrity.session_root import ENDS, grown, root_problem
from lllm.events.model import SessionFailed, SessionSucceeded


def make_proof(
    streams: Iterable[Sequence[Recorded]],
    tree: LogTree,
    checkpoint: str,
    *,
    redacted: bool = False,
    seq: int | None = None,
    key: PublicKey | None = None,
) -> Proof:
    """Make the proof that a log contains some events.

    Args:
        streams: All events of each stream, in order. Their digests are checked.
        tree: The Merkle tree of the log.
        checkpoint: The content of the checkpoint's file.
        redacted: True to show only the commitments to the payloads, not the payloads themselves.
        seq: The number of the one event of the first stream to prove; None to prove all events.
        key: The public key to put into the file, so that it can be checked without another one.

    Returns:
        The proof.

    Raises:
        AuditError: The checkpoint is not of this log, is older than the events, or is not signed
            with the key; or the event does not exist.
        StoreError: The stored rows are incomplete.
        LogError: The rows or the log can't be read.
        MissingExtra: A key is given, and the extra `audit` is not installed.
    """
    anchor = read_checkpoint(checkpoint, key)
    _check_is_of_log(anchor, tree)
    made, leaves = [], list[int]()
    for events in streams:
        stream = _proven(events, tree, anchor.size, redacted=redacted, seq=seq)
        made.append(stream)
        leaves += [one.leaf for one in stream.events if one.leaf is not None]
    path = common_proof(leaves, anchor.size, tree.read)
    return Proof(
        FORMAT, HOW, str(checkpoint), tuple(made), tuple(map(encoded, path)),
        None if key is None else str(key),
    )  # fmt: skip


def read_checkpoint(content: str, key: PublicKey | None) -> LogCheckpoint:
    """Read a checkpoint, and check its signature if a key is given.

    Args:
        content: The content of its file.
        key: The key that must have signed it; None to check no signature.

    Raises:
        AuditError: The content is not a checkpoint; or, as a SignatureInvalid, the key did not sign
            it.
        MissingExtra: A key is given, and the extra `audit` is not installed.
    """
    data = content.encode()
    if key is not None or is_signed(data):
        note = parse_note(data)
        if key is not None:
            verify_note(note, [key])
        return parse_checkpoint(note.text)
    return parse_checkpoint(decode_text(data))


def _check_is_of_log(anchor: LogCheckpoint, tree: LogTree) -> None:
    if anchor.size > tree.size:
        raise AuditError(
            f"The checkpoint covers {anchor.size:,} events, but this log has {tree.size:,}: the "
            "checkpoint is of another log, or the end of this log is missing. `lllm verify "
            "--checkpoint` says more."
        )
    if read_root(anchor.size, tree.read) != anchor.root:
        raise AuditError(
            f"The first {anchor.size:,} events of this log are not those of the checkpoint: the "
            "checkpoint is of another log, or this log was changed. `lllm verify --checkpoint` "
            "says more."
        )


def _proven(
    events: Sequence[Recorded], tree: LogTree, size: int, *, redacted: bool, seq: int | None
) -> ProofStream:
    """Make the part of a proof that is about one stream."""
    first, salt = events[0], codec.salt_of(events[0])
    if seq is not None:
        events = [event for event in events if event.seq == seq]
        if not events:
            raise AuditError(f"Session {first.stream} has no event {seq}.")
    rooted = not redacted and seq is None and _is_rooted(events)
    made: list[ProofEvent] = []
    for event in events:
        index = None
        if not rooted or event is events[-1]:
            index = _leaf(event, tree, size)
            if index is None and (not made or events[-1].type in ENDS):
                raise AuditError(
                    f"The checkpoint was made before event {event.seq} of {first.stream}: make a "
                    "new one with `lllm seal`, and prove it with that."
                )
            if index is None:
                break  # of a session that runs, what came later
        made.append(_event(event, index, salt, redacted=redacted))
    shows = any(event.commitment is None for event in made)
    return ProofStream(first.stream, tuple(made), encoded(salt) if shows else None)


def _is_rooted(events: Sequence[Recorded]) -> bool:
    """True if the end of a session carries the root of all events before it."""
    end = codec.decode(events[-1])
    if not isinstance(end, SessionSucceeded | SessionFailed) or None in (end.events, end.root):
        return False
    return root_problem(end, grown(RightEdge(), events[:-1])) is None


def _leaf(event: Recorded, tree: LogTree, size: int) -> int | None:
    """Find the index of an event's leaf; None if the checkpoint is older than the event."""
    found = tree.leaf(event.position)
    if found is None or found[0] >= size:
        return None
    if found[1] != event.digest:
        raise AuditError(
            f"Event {event.seq} of {event.stream} is not the one that the Merkle tree has at its "
            "place; `lllm rebuild` makes the tree anew."
        )
    return found[0]


def _event(event: Recorded, leaf: int | None, salt: bytes, *, redacted: bool) -> ProofEvent:
    if not 0 <= event.version <= LARGEST or event.seq > LARGEST:
        raise AuditError(
            f"Event {event.seq} of {event.stream} has a number above {LARGEST}, which a proof "
            "can't hold."
        )
    made = ProofEvent(event.seq, str(event.time), event.type, event.version, leaf)
    committed = commitment_of_erased(event.data)
    if committed is None and not redacted:
        return shown(made, event.data)
    committed = committed or commitment(salt, event.data)
    return msgspec.structs.replace(made, commitment=encoded(committed))
