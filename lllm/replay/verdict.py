"""What comes of replaying one session with today's code: the same, diverged, or not replayed."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from lllm.events import codec
from lllm.events.errors import ReplayError
from lllm.events.model import SessionFailed, SessionSucceeded
from lllm.replay.comparison import diff_of, json_lines
from lllm.replay.divergence import ReplayDivergence, ReplayInterrupted, ReplayPlace
from lllm.replay.ignored_parts import Ignored
from lllm.replay.replay import Replay
from lllm.replay.target import ReplayTarget

SessionVerdict = Literal["same", "diverged", "failed"]
_End: TypeAlias = SessionSucceeded | SessionFailed


class ReplayResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came of replaying one recorded session."""

    session_id: str
    """The id of the recorded session; the path, where it was given as an exported file."""
    tactic_path: str = ""
    """Its tactic; empty where it could not be read."""
    verdict: SessionVerdict
    """same: all requests and the end are as recorded; failed: it could not be replayed."""
    kind: str = ""
    """How it diverged: a kind of ReplayDivergence, or "end" for another delivery or error."""
    where: str = ""
    """Where, without what is of this one session, so that equal places can be grouped."""
    differs: tuple[str, ...] = ()
    """What differs there."""
    message: str = ""
    """What was found, in words; for failed, why."""
    diff: str = ""
    """A unified diff; empty where there is nothing to compare."""
    cut_off: bool = False
    """True where the recording ended before the code did, and all was the same up to there."""
    seconds: float = 0.0
    """How long the replay took."""


def failed(session_id: str, why: str, tactic_path: str = "") -> ReplayResult:
    """The result of a session that could not be replayed.

    Args:
        session_id: The recorded session.
        why: What was wrong.
        tactic_path: Its tactic, where it is known.
    """
    return ReplayResult(
        session_id=session_id, tactic_path=tactic_path, verdict="failed", message=why
    )


def verdict_of(target: ReplayTarget, replay: Replay) -> ReplayResult:
    """Replay a session, and say what came of it.

    Args:
        target: Today's code.
        replay: Of the session, not entered yet.

    Returns:
        The result. Whatever the code raises is compared with the recorded end.
    """
    recording = replay.recording
    own, path = recording.session_id, recording.tactic_path
    same = ReplayResult(session_id=own, tactic_path=path, verdict="same")
    try:
        target.replay(replay)
    except KeyboardInterrupt:
        raise
    except ReplayInterrupted as interrupted:
        return msgspec.structs.replace(same, cut_off=True, message=str(interrupted))
    except ReplayDivergence as divergence:
        return _diverged(divergence, own, path)
    except ReplayError as error:
        return failed(own, str(error), path)
    except BaseException as error:  # it is compared with how the session ended then
        if replay.session_id is None:
            return failed(own, f"{type(error).__name__}: {error}", path)
    if replay.interrupted is not None:
        return msgspec.structs.replace(same, cut_off=True, message=str(replay.interrupted))
    if replay.divergences:
        return _diverged(replay.divergences[0], own, path)
    found = _other_end(replay)
    return same if found is None else _diverged(found, own, path)


def _diverged(divergence: ReplayDivergence, session_id: str, path: str) -> ReplayResult:
    place = msgspec.structs.replace(divergence.place, session_id=None, child=None)
    told = [str(divergence.args[0])]
    if divergence.recorded_next:
        told.append(f"Recorded next: {divergence.recorded_next}")
    return ReplayResult(
        session_id=session_id, tactic_path=path, verdict="diverged", kind=divergence.kind,
        where=str(place), differs=divergence.differs, message="\n".join(told),
        diff=divergence.diff,
    )  # fmt: skip


def _other_end(replay: Replay) -> ReplayDivergence | None:
    """How the session ends otherwise than the recorded one; None where it does not.

    Both ends are as the log has them, so that what is cut out of one is cut out of the other.
    """
    recorded = replay.recording.end
    if recorded is None or replay.recording.is_stopped:
        return None
    then, now = (_told(end, replay.ignored) for end in (recorded, _end_of(replay)))
    if then == now:
        return None
    return ReplayDivergence(
        "All requests were the same, and the session ends in another way than the recorded one.",
        kind="end",
        place=ReplayPlace(tactic=replay.recording.tactic_path),
        differs=tuple(name for name in ("delivery", "error") if then[name] != now[name]),
        diff=diff_of(json_lines(then), json_lines(now)),
    )


def _end_of(replay: Replay) -> _End | None:
    """The event that ended the replay's own session."""
    found: _End | None = None
    for event in replay.host.log.read(stream=replay.session_id):
        payload = codec.decode(event)
        if isinstance(payload, SessionSucceeded | SessionFailed):
            found = payload
    return found


def _told(end: _End | None, ignored: Ignored) -> dict[str, object]:
    """What an end says, without where in the code it was raised."""
    told: dict[str, object] = {"delivery": None, "error": None}
    if end is not None:
        told["delivery"] = ignored.without(end.delivery, "delivery")
    if isinstance(end, SessionFailed):
        error = {"type": end.error.type, "message": end.error.message}
        told["error"] = ignored.without(error, "error")
    return told
