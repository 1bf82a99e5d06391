"""Replays one session with today's code, and says if it is the same, diverged or failed."""

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
    """The result of replaying one recorded session."""

    session_id: str
    """The id of the recorded session, or the path of the exported file."""
    tactic_path: str = ""
    """The stable path of the session's tactic; empty if the session could not be read."""
    verdict: SessionVerdict
    """same: requests and end are as recorded; diverged: one differs; failed: no replay possible."""
    kind: str = ""
    """The kind of ReplayDivergence, or "end" for another delivery or error; empty if none."""
    where: str = ""
    """The place in words, without the session's id, so that results can be grouped by place."""
    differs: tuple[str, ...] = ()
    """The names of the parts that differ at the place, such as "messages"."""
    message: str = ""
    """The difference in words; for a failed replay, the reason."""
    diff: str = ""
    """A unified diff from recorded to present; empty if there is nothing to compare."""
    cut_off: bool = False
    """True if everything was the same, and then the recording ended before the code did."""
    seconds: float = 0.0
    """The duration of the replay in seconds."""


def failed(session_id: str, why: str, tactic_path: str = "") -> ReplayResult:
    """Make the result of a session that could not be replayed.

    Args:
        session_id: The id of the recorded session, or the path of the exported file.
        why: The reason, for the `message` of the result.
        tactic_path: The stable path of the session's tactic; empty if it is unknown.
    """
    return ReplayResult(
        session_id=session_id, tactic_path=tactic_path, verdict="failed", message=why
    )


def verdict_of(target: ReplayTarget, replay: Replay) -> ReplayResult:
    """Replay a session with today's code, and compare its requests and its end.

    Args:
        target: The code to call.
        replay: The replay of the session, whose `with` block is not entered yet.

    Returns:
        The result. An error that the code raises is compared with the recorded end.

    Raises:
        KeyboardInterrupt: The user pressed Ctrl-C.
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
    """Compare the end of the session with the recorded end; None if both are equal.

    Both ends are read from their logs, so that redaction has cut the same parts out of both.
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
    """Give the delivery and the error of an end, without the error's traceback."""
    told: dict[str, object] = {"delivery": None, "error": None}
    if end is not None:
        told["delivery"] = ignored.without(end.delivery, "delivery")
    if isinstance(end, SessionFailed):
        error = {"type": end.error.type, "message": end.error.message}
        told["error"] = ignored.without(error, "error")
    return told
