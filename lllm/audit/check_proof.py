"""Checks proofs, on any machine: no store is needed.

A check answers three questions separately: whether the events are in the tree of the checkpoint;
whether a session is complete; and who vouches for the checkpoint, which the file itself can't
answer.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from lllm.audit.base64_text import decoded
from lllm.audit.checkpoint import LogCheckpoint, parse_checkpoint
from lllm.audit.cosignature import WitnessKey, check_cosignatures
from lllm.audit.keys import PublicKey
from lllm.audit.proof import Proof, ProofEvent, ProofStream, hash_of, payload_of
from lllm.audit.signed_note import decode_text, is_signed, parse_note, verify_note
from lllm.audit.verdict import AnchorCheck, Verdict
from lllm.events import codec
from lllm.events.digest import commitment, leaf_of_commitment
from lllm.events.envelope import Recorded
from lllm.events.errors import AuditError, SignatureInvalid
from lllm.events.integrity.common_proof import root_of_proof
from lllm.events.integrity.merkle import RightEdge
from lllm.events.integrity.session_root import ENDS, root_problem
from lllm.events.model import SessionFailed, SessionStarted, SessionSucceeded


class ProvenStream(msgspec.Struct, frozen=True):
    """What a proof proves about one session, or about one statement on a session.

    Attributes:
        stream: The name of the event stream: the session's id, or the statement's.
        events: The number of its events in the file.
        shown: The number of those events whose payload is in the file.
        first_time: The time of the first event, in nanoseconds UTC, by the clock of the recording
            machine.
        last_time: The time of the last event, in nanoseconds UTC.
        complete: True if the proof shows that these are all events of a session that ended, or the
            one event of a statement.
    """

    stream: str
    events: int
    shown: int
    first_time: int
    last_time: int
    complete: bool


class CheckedProof(msgspec.Struct, frozen=True):
    """What a check of a proof found.

    Attributes:
        verdict: "good" if the events are in the tree of the checkpoint, else "wrong".
        says: The verdict as a sentence.
        signature: "good" if the reader trusts the checkpoint, "wrong" if its signature does not
            fit, "unknown" if nothing from outside of the file vouches for it.
        signature_says: The verdict on the signature as a sentence.
        checkpoint: The checkpoint in the file; None if it can't be read.
        streams: What is proven about each session or statement; empty if the verdict is "wrong".
        outside: What the cosignatures of witnesses under the checkpoint show.
    """

    verdict: Verdict
    says: str
    signature: Verdict
    signature_says: str
    checkpoint: LogCheckpoint | None = None
    streams: tuple[ProvenStream, ...] = ()
    outside: tuple[AnchorCheck, ...] = ()


def check_proof(
    proof: Proof,
    keys: Sequence[PublicKey] = (),
    trusted: Sequence[LogCheckpoint] = (),
    witnesses: Sequence[WitnessKey] = (),
) -> CheckedProof:
    """Check a proof.

    Args:
        proof: The proof to check.
        keys: Public keys that the reader trusts; they must come from elsewhere than the file.
        trusted: Checkpoints that the reader trusts, from elsewhere than the file.
        witnesses: The keys of witnesses that the reader trusts.

    Returns:
        What the check found. A bad file gives a "wrong" verdict and raises nothing.

    Raises:
        MissingExtra: A signature has to be checked, and the extra `audit` is not installed.
    """
    try:
        data = _encoded(proof.checkpoint)
        note = parse_note(data) if is_signed(data) else None
        checkpoint = parse_checkpoint(decode_text(data) if note is None else note.text)
    except AuditError as error:
        says = f"The checkpoint in the file can't be read: {error}"
        return CheckedProof("wrong", says, "unknown", "There is no checkpoint to trust.")
    outside = tuple(check_cosignatures(note, witnesses))
    signature, signature_says = _signature(proof, checkpoint, keys, trusted, outside)
    try:
        streams = _streams(proof, checkpoint)
    except AuditError as error:
        return CheckedProof(
            "wrong", str(error), signature, signature_says, checkpoint, outside=outside
        )
    says = "The log of the checkpoint contains every event in the file."
    return CheckedProof("good", says, signature, signature_says, checkpoint, streams, outside)


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise AuditError("It is not UTF-8 text.") from error


# -- whom to trust


def _signature(
    proof: Proof,
    checkpoint: LogCheckpoint,
    keys: Sequence[PublicKey],
    trusted: Sequence[LogCheckpoint],
    outside: Sequence[AnchorCheck],
) -> tuple[Verdict, str]:
    """Say who vouches for the checkpoint."""
    says: list[str] = []
    if trusted:
        this = checkpoint.size, checkpoint.root
        if this not in [(one.size, one.root) for one in trusted]:
            return "wrong", "The checkpoint in the file is not one of those that were given."
        says.append("The checkpoint is one that was given.")
    if keys:
        try:
            signers = verify_note(parse_note(_encoded(proof.checkpoint)), keys)
        except AuditError as error:
            return "wrong", str(error)
        names = ", ".join(key.name for key in signers)
        says.append(f"The checkpoint is signed by {names}.")
    cosigners = ", ".join(one.by for one in outside if one.verdict == "good")
    if cosigners and not says:
        says.append(
            f"The checkpoint is cosigned by {cosigners}, with the key that it knows of the log."
        )
    return ("good", " ".join(says)) if says else _signature_by_own_key(proof)


def _signature_by_own_key(proof: Proof) -> tuple[Verdict, str]:
    if proof.key is None:
        says = "Nothing from outside of the file vouches for the checkpoint: give --key or "
        return "unknown", says + "--checkpoint, from somewhere else than this file."
    try:
        key = PublicKey.parse(proof.key)
        verify_note(parse_note(_encoded(proof.checkpoint)), [key])
    except (AuditError, SignatureInvalid) as error:
        return "wrong", f"The key inside of the file did not sign the checkpoint: {error}"
    return "unknown", (
        f"The checkpoint is signed with the only key, {key}, which is inside of the file. Whoever "
        "made the file chose that key: compare it with one that you have from elsewhere, or give "
        "that one as --key."
    )


# -- what is in the tree


def _streams(proof: Proof, checkpoint: LogCheckpoint) -> tuple[ProvenStream, ...]:
    """Check that all events are in the tree; raise AuditError if they are not."""
    leaves: dict[int, bytes] = {}
    proven = [_stream(stream, leaves) for stream in proof.streams]
    if len({one.stream for one in proven}) < len(proven):
        raise AuditError("The file has the same stream twice.")
    path = [hash_of(one, "A part of its path") for one in proof.path]
    root = root_of_proof(leaves, checkpoint.size, path)
    if root != checkpoint.root:
        raise AuditError(
            "At least one event in the file is not in the log of the checkpoint: the events and "
            "the path give another root."
        )
    return tuple(proven)


def _stream(stream: ProofStream, leaves: dict[int, bytes]) -> ProvenStream:
    """Check one stream, except its place in the tree, and add its leaves to `leaves`."""
    events = stream.events
    hashes = [_leaf_hash(stream, number) for number in range(len(events))]
    seqs = [event.seq for event in events]
    if not events or seqs != sorted(set(seqs)) or seqs[0] < 1:
        raise AuditError(f"The events of {stream.stream!r} are not in order, or there are none.")
    alone = [event.leaf is not None for event in events]
    if not all(alone):
        _check_root(stream, hashes, alone)
    for event, leaf in zip(events, hashes, strict=True):
        if event.leaf is not None and leaves.setdefault(event.leaf, leaf) != leaf:
            raise AuditError(f"Two different events have the leaf index {event.leaf}.")
    whole = seqs == list(range(1, len(seqs) + 1))
    return ProvenStream(
        stream.stream,
        len(events),
        sum(event.commitment is None for event in events),
        int(events[0].time),
        int(events[-1].time),
        whole and (events[-1].type in ENDS or not _is_session(events)),
    )


def _is_session(events: Sequence[ProofEvent]) -> bool:
    """True if a stream is a session; a statement about a session has only one event."""
    return len(events) > 1 or events[0].type == SessionStarted.type


def _leaf_hash(stream: ProofStream, number: int) -> bytes:
    event = stream.events[number]
    data = payload_of(event)
    if data is None:
        committed = hash_of(event.commitment or "", f"The commitment of event {event.seq}")
    else:
        salt = decoded(stream.salt or "")
        if salt is None:
            raise AuditError(f"The salt of {stream.stream!r} is not base64.")
        committed = commitment(salt, data)
    try:
        return leaf_of_commitment(
            committed, stream.stream, event.seq, int(event.time), event.type, event.version
        )
    except UnicodeEncodeError as error:
        raise AuditError(f"The name of a stream or type is not UTF-8: {error}") from error


def _check_root(stream: ProofStream, hashes: Sequence[bytes], alone: Sequence[bool]) -> None:
    """Check a session whose last event carries the root of all its events."""
    last = stream.events[-1]
    end = _decoded_end(stream)
    if alone != [*[False] * (len(alone) - 1), True] or end is None:
        raise AuditError(
            f"Of {stream.stream!r}, events without a leaf are there, and no end that proves them."
        )
    tree = RightEdge()
    tree.extend(hashes[:-1])
    problem = root_problem(end, tree)
    if problem is not None or last.seq != len(hashes):
        raise AuditError(
            f"Of the end of {stream.stream!r}, {problem or 'the number does not fit'}: an event "
            "was changed, left out or put in."
        )


def _decoded_end(stream: ProofStream) -> SessionSucceeded | SessionFailed | None:
    """Decode the last event if it ends the session and carries a root; else return None."""
    last = stream.events[-1]
    data = payload_of(last)
    if data is None or last.type not in ENDS:
        return None
    end = codec.decode(
        Recorded(0, stream.stream, last.seq, int(last.time), last.type, last.version, data, b"")
    )
    if not isinstance(end, SessionSucceeded | SessionFailed) or None in (end.events, end.root):
        return None
    return end
