"""Places and releases legal holds, which prevent every erasure of a session."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import msgspec

from lllm.events.dataframe_rows import TableRow
from lllm.events.errors import StoreError
from lllm.events.ids import new_id, new_salt
from lllm.events.model import SessionHeld, SessionReleased
from lllm.events.statements import append_statement
from lllm.projections.database import RowsDatabase
from lllm.projections.queries import erasures as erasure_queries
from lllm.projections.queries import sessions as session_queries
from lllm.store.erasure_lock import alone, who
from lllm.store.erasure_report import refuse_gone
from lllm.times import datetime_of

if TYPE_CHECKING:
    from lllm.store.session_host import StoreSessionHost


class LegalHold(msgspec.Struct, TableRow, frozen=True, kw_only=True):
    """A legal hold on a session.

    Attributes:
        hold: The id of the hold, with which it can be released.
        session_id: The id of the session that the hold protects.
        placed: The time at which it was placed, UTC.
        by: The name of the person or program that placed it.
        reason: The reason for the hold.
    """

    hold: str
    session_id: str
    placed: dt.datetime
    by: str
    reason: str


def place_hold(host: StoreSessionHost, session_id: str, reason: str, by: str | None) -> str:
    """Place a legal hold on a session; see `LogStore.hold`."""
    with alone(host.rows.database):  # an erasure looks for holds before it begins
        refuse_gone(host.reader.find(session_id, below=False).row)
        event = SessionHeld(about=session_id, by=who(by), reason=reason, salt=new_salt())
        stream = f"held-{new_id()}"
        append_statement(host.settings.backend, stream, event, salt=event.salt, redact=host.redact)
    return stream


def release_hold(
    host: StoreSessionHost, session_id: str, reason: str, by: str | None, hold: str | None
) -> int:
    """Release legal holds on a session; see `LogStore.release`."""
    with alone(host.rows.database):
        found = holds_on(host, session_id)
        lifted = [one for one in found if hold in (None, one.hold)]
        if not lifted:
            which = "no legal hold" if hold is None else f"no legal hold {hold!r}"
            raise StoreError(f"Session {session_id} has {which}; `lllm hold --list` shows them.")
        event = SessionReleased(
            about=session_id, hold=hold, by=who(by), reason=reason, salt=new_salt()
        )
        stream = f"released-{new_id()}"
        append_statement(host.settings.backend, stream, event, salt=event.salt, redact=host.redact)
    return len(lifted)


def holds_on(host: StoreSessionHost, session_id: str) -> list[LegalHold]:
    """List the legal holds on a session; see `LogStore.holds`."""
    row = host.reader.find(session_id, below=False).row

    def ask(database: RowsDatabase) -> list[LegalHold]:
        with session_queries.reading(database) as connection:
            return [
                LegalHold(
                    hold=one.hold, session_id=session_id, placed=datetime_of(one.placed),
                    by=one.placed_by, reason=one.reason,
                )
                for one in erasure_queries.holds_on(connection, {row.number})
            ]  # fmt: skip

    return host.rows.ask(ask)
