"""Gathers what a report tells: of sessions, of the log, and how it is proven."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from functools import lru_cache

import msgspec

from lllm.audit.check_proof import CheckedProof, check_proof
from lllm.audit.keys import PublicKey
from lllm.audit.report.session_facts import SessionFacts, has_definition, read_facts
from lllm.events import codec
from lllm.events.backend import read_types
from lllm.events.errors import AuditError, LogDamaged, SessionWasErased
from lllm.events.model import AgentDefined, ErrorRecorded, LogGap, SessionErased
from lllm.store.log_store import LogStore

_DEFINITIONS = 1_000  # in memory


class LostEvents(msgspec.Struct, frozen=True):
    """Events that could not be written when they happened.

    Attributes:
        lost: How many.
        first_time: Of the first of them, nanoseconds UTC.
        last_time: Of the last of them.
        reason: Why.
    """

    lost: int
    first_time: int
    last_time: int
    reason: str


class ProvenSession(msgspec.Struct, frozen=True):
    """Whether a session stands in the log of the checkpoint.

    Attributes:
        checked: What a check of its proof found; None where no proof could be made.
        why_not: Why there is none, "" where there is one.
    """

    checked: CheckedProof | None
    why_not: str = ""


class AuditReport(msgspec.Struct):
    """What a report tells.

    Attributes:
        made: When it was made, UTC.
        store: The name of the store.
        asked: Which sessions were asked for, in words.
        more: True if more sessions fit what was asked for, and are left out.
        sessions: The sessions and those below them, the oldest first.
        damaged: The ids of sessions that are not what was written, and what is wrong with each.
        gaps: What the log lost in the time of these sessions.
        errors: Failures outside of sessions in that time: times, and what was raised.
        checkpoint: The content of the checkpoint that the proofs are for.
        is_new: True if the checkpoint was made for this report.
        proofs: For each session, by its id.
    """

    made: dt.datetime
    store: str
    asked: str
    more: bool
    sessions: list[SessionFacts]
    damaged: list[tuple[str, str]]
    gaps: list[LostEvents]
    errors: list[tuple[int, str]]
    checkpoint: str
    is_new: bool
    proofs: dict[str, ProvenSession]


def audit_report(
    store: LogStore,
    session_ids: Iterable[str],
    *,
    asked: str = "",
    more: bool = False,
    checkpoint: str | None = None,
    key: PublicKey | None = None,
) -> AuditReport:
    """Gather what the log tells of sessions and those below them.

    Args:
        store: The store.
        session_ids: The sessions, the oldest first.
        asked: Which they are, in words.
        more: True if there are more that fit these words.
        checkpoint: An earlier checkpoint, in whose log the sessions are proven to stand; None to
            make one now.
        key: The public key that signed it, None to leave that unknown.

    Returns:
        The report.

    Raises:
        SessionNotFound: There is no such session.
        AuditError: The checkpoint is none.
        LogError: The log can't be read.
    """

    @lru_cache(_DEFINITIONS)
    def definition(stream: str) -> AgentDefined | None:
        return has_definition(list(store.log.read(stream=stream)))

    sessions: list[SessionFacts] = []
    damaged: list[tuple[str, str]] = []
    for session_id in session_ids:
        try:
            family = _family(store, session_id)
            sessions += [read_facts(store.events(one), one, definition) for one in family]
        except LogDamaged as error:
            damaged.append((session_id, str(error)))
    begin = min((one.start_time for one in sessions), default=0)
    end = max((one.end_time or 2**63 for one in sessions), default=0)
    sealed = store.seal() if checkpoint is None else checkpoint
    return AuditReport(
        made=dt.datetime.now(dt.UTC),
        store=repr(store.backend),
        asked=asked,
        more=more,
        sessions=sessions,
        damaged=damaged,
        gaps=list(_gaps(store, begin, end)),
        errors=list(_errors(store, begin, end)),
        checkpoint=sealed,
        is_new=checkpoint is None,
        proofs={one.session_id: _proof(store, one.session_id, sealed, key) for one in sessions},
    )


def _family(store: LogStore, session_id: str) -> list[str]:
    """The ids of a session and of all below it."""
    try:
        waiting = [store.load_session(session_id)]
    except SessionWasErased:
        return [session_id, *_erased_below(store, session_id)]
    family: list[str] = []
    while waiting:
        one = waiting.pop()
        family.append(one.session_id)
        waiting += [child for below in one.sub_tactic_sessions.values() for child in below][::-1]
    return family


def _erased_below(store: LogStore, session_id: str) -> Iterator[str]:
    """The ids of the erased sessions below an erased one."""
    for event in read_types(store.log, [SessionErased.type]):
        one = codec.decode(event)
        if isinstance(one, SessionErased) and session_id in (
            above.session_id for above in one.ancestors
        ):
            yield one.about


def _gaps(store: LogStore, begin: int, end: int) -> Iterator[LostEvents]:
    for event in read_types(store.log, [LogGap.type]):
        gap = codec.decode(event)
        if isinstance(gap, LogGap) and gap.first_time <= end and begin <= gap.last_time:
            yield LostEvents(gap.lost, gap.first_time, gap.last_time, gap.reason)


def _errors(store: LogStore, begin: int, end: int) -> Iterator[tuple[int, str]]:
    for event in read_types(store.log, [ErrorRecorded.type]):
        error = codec.decode(event)
        if isinstance(error, ErrorRecorded) and begin <= event.time <= end:
            yield event.time, f"{error.error.type}: {error.error.message}"


def _proof(
    store: LogStore, session_id: str, checkpoint: str, key: PublicKey | None
) -> ProvenSession:
    try:
        proof = store.prove(session_id, checkpoint)
    except (AuditError, LogDamaged) as error:
        return ProvenSession(None, str(error))
    return ProvenSession(check_proof(proof, [] if key is None else [key]))
