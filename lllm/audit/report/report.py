"""Gathers the facts of a report: about sessions, about the log, and the proofs."""

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
from lllm.events.errors import AuditError, LogDamaged, SessionWasArchived, SessionWasErased
from lllm.events.model import AgentDefined, ErrorRecorded, LogGap, SessionErased
from lllm.store.log_store import LogStore

_DEFINITIONS = 1_000  # in memory


class LostEvents(msgspec.Struct, frozen=True):
    """Events that were lost because they could not be written.

    Attributes:
        lost: The number of lost events.
        first_time: The time of the first lost event, in nanoseconds UTC.
        last_time: The time of the last lost event, in nanoseconds UTC.
        reason: The reason why they could not be written.
    """

    lost: int
    first_time: int
    last_time: int
    reason: str


class ProvenSession(msgspec.Struct, frozen=True):
    """Whether the log of the checkpoint contains a session.

    Attributes:
        checked: The result of checking the session's proof; None if no proof could be made.
        why_not: The reason why there is no proof; "" if there is one.
    """

    checked: CheckedProof | None
    why_not: str = ""


class AuditReport(msgspec.Struct):
    """The facts of a report.

    Attributes:
        made: The time at which the report was made, UTC.
        store: The name of the store.
        asked: The selection of sessions, in words.
        more: True if more sessions match the selection than the report has.
        sessions: The sessions with their child sessions, oldest first.
        damaged: The ids of sessions that can't be read correctly, each with the reason.
        archived: Where each session is that was archived, and is not in this report.
        gaps: Events that the log lost during the time of these sessions.
        errors: Errors outside of sessions during that time, as pairs of time and text.
        checkpoint: The content of the checkpoint that the proofs refer to.
        is_new: True if the checkpoint was made for this report.
        proofs: The proof of each session, by the session's id.
    """

    made: dt.datetime
    store: str
    asked: str
    more: bool
    sessions: list[SessionFacts]
    damaged: list[tuple[str, str]]
    archived: list[str]
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
    """Gather the facts about some sessions and their child sessions.

    Args:
        store: The store that has the sessions.
        session_ids: The whole ids of the sessions, oldest first.
        asked: The selection in words, for the report's first lines.
        more: True if more sessions match that selection.
        checkpoint: The content of an earlier checkpoint, for which the sessions are proven; None to
            make a new one.
        key: The public key that signed the checkpoint; None if it is not known.

    Returns:
        The facts, to be turned into a document by `compose`.

    Raises:
        SessionNotFound: One of the sessions does not exist.
        AuditError: The text is not a checkpoint.
        LogError: The log can't be read.
    """

    @lru_cache(_DEFINITIONS)
    def definition(stream: str) -> AgentDefined | None:
        return has_definition(list(store.log.read(stream=stream)))

    sessions: list[SessionFacts] = []
    damaged: list[tuple[str, str]] = []
    archived: list[str] = []
    for session_id in session_ids:
        try:
            family = _family(store, session_id)
            sessions += [read_facts(store.events(one), one, definition) for one in family]
        except LogDamaged as error:
            damaged.append((session_id, str(error)))
        except SessionWasArchived as error:
            archived.append(str(error))
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
        archived=archived,
        gaps=list(_gaps(store, begin, end)),
        errors=list(_errors(store, begin, end)),
        checkpoint=sealed,
        is_new=checkpoint is None,
        proofs={one.session_id: _proof(store, one.session_id, sealed, key) for one in sessions},
    )


def _family(store: LogStore, session_id: str) -> list[str]:
    """Return the ids of a session and of all its descendants."""
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
    """Yield the ids of the erased descendants of an erased session."""
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
