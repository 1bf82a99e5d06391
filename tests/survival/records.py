"""What the record of a session says that has ended, in whichever way."""

from __future__ import annotations

from typing import NamedTuple

from lllm import LogStore


class Record(NamedTuple):
    """What a session's record must say."""

    state: str
    error: str = ""
    cancelled: bool = False


FAILED = Record("failure", "ValueError")
INTERRUPTED = Record("interrupted")
SUCCESS = Record("success")
CANCELLED = Record("failure", "asyncio.exceptions.CancelledError", cancelled=True)
STOPPED = Record("failure", "KeyboardInterrupt", cancelled=True)
EXITED = Record("failure", "SystemExit", cancelled=True)


def left_behind(store: LogStore, expected: Record, said: str = "") -> None:
    """Every session of a store has ended and says how."""
    (summary,) = store.list_sessions()
    session = store.load_session(summary.session_id)
    families = [session]
    while families:
        one = families.pop()
        families += [child for below in one.sub_tactic_sessions.values() for child in below]
        told = one.error.type if one.error else ""
        assert Record(one.state, told, one.cancelled) == expected, said
        for call in [call for calls in one.agent_sessions.values() for call in calls]:
            # An exit still ends the calls that are open, also of a session that it leaves open.
            ended = ("interrupted", "failure") if expected.state == "interrupted" else ()
            assert call.state in (expected.state, *ended)
    record = store.load_session_record(summary.session_id)
    if expected.error:
        assert record.traceback is not None
        assert expected.error in record.traceback
    assert store.list_sessions(state="running") == []
    assert store.rebuild(check=True).difference is None
