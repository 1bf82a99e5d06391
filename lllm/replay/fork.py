"""Forks a session: replays it up to a point, makes one change there, and then runs live.

A fork is a replay of the events before the point only. After them it goes on with the real model
and the real tools.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import msgspec

from lllm.agents.fork_edits import Edit, TurnEdit, check_message
from lllm.events.envelope import Recorded
from lllm.events.errors import ConfigError, ReplayError
from lllm.events.model import AgentDefined, Content, LLMResponded, ToolReturned
from lllm.replay.comparison import content_of
from lllm.replay.divergence import OnDivergence, ReplayDivergence, ReplayPlace
from lllm.replay.fork_point import ForkAt, ForkPoint, find_point, next_turn
from lllm.replay.ignored_parts import Ignore
from lllm.replay.recorded_agents import RecordedAttempt, RecordedCall
from lllm.replay.recorded_session import RecordedSession
from lllm.replay.recording_reader import read_recording
from lllm.replay.replay import Replay
from lllm.sessions.host import SessionHost
from lllm.tools.results import result_forms


class Fork(Replay):
    """The block that `store.fork` gives, in which a session goes on from its recorded past.

    Attributes:
        recording: The recorded session up to the point of the fork.
        edit: The change that is made at the point; None if nothing is changed.
        turn: The place of the first model turn that has the change; None if nothing is changed.
        went_on: True once the code has run past the point of the fork.
    """

    def __init__(
        self,
        events: Sequence[Recorded],
        session_id: str | None,
        source: str,
        host: SessionHost,
        *,
        at: ForkAt,
        edit: Edit | None,
        on_divergence: OnDivergence,
        ignore: Iterable[Ignore],
        live_tools: Collection[str],
    ) -> None:
        if edit is not None and not isinstance(edit, Edit):
            raise ConfigError(f"edit is an Edit, as Edit(model=...), not {edit!r}.")
        whole = read_recording(events, session_id, source)
        point = find_point(whole, at)
        past = _past(events, whole, source, point)
        super().__init__(
            past, host, on_divergence=on_divergence, ignore=ignore, live_tools=live_tools
        )
        self.goes_on = True
        self.edit = edit
        self.turn = None if edit is None else _turn(whole, past, point, edit)
        self._is_changed = edit is None
        if edit is not None and self.turn is not None:
            _prepare(whole, past, self.turn, edit)

    def changed(self, place: ReplayPlace, tool: int | None) -> TurnEdit | None:
        """Give the edit once, as soon as the model's turn at `turn` begins; see `Replay`."""
        if self.edit is None or self._is_changed or place != self.turn:
            return None
        self._is_changed = True
        if self.edit.changes_tool and tool is None:
            raise ReplayError(
                f"The result of the tool before ({place}) can't be changed: it did not run, since "
                "its arguments were wrong or the same call was made before."
            )
        return TurnEdit(self.edit.without_tool, tool)

    def _find_missing(self) -> None:
        """Remember a divergence if the code never reached the point of the fork."""
        if self._is_changed:
            return
        self.divergences.append(
            ReplayDivergence(
                "The code never came to the point of the fork, so nothing was changed.",
                kind="missing",
                place=self.turn or ReplayPlace(tactic=self.recording.tactic_path),
            )
        )


def _past(
    events: Sequence[Recorded], whole: RecordedSession, source: str, point: ForkPoint
) -> RecordedSession:
    """Cut the session at the point; raise ReplayError if it had not begun or was over by then."""
    stays = {id(event) for event in point.until.of(events)}
    kept = [event for event in events if id(event) in stays or event.type == AgentDefined.type]
    session_id = whole.session_id
    if not any(event.stream == session_id for event in kept):
        raise ReplayError(f"Session {session_id} had not begun at {point.until}.")
    past = read_recording(kept, session_id, source)
    if past.end is not None:
        raise ReplayError(
            f"Session {session_id} had ended by {point.until}, so nothing is left to go on with. "
            "Choose an earlier point."
        )
    for one in past.family():  # a call without an answer is made anew, and may differ
        one.captured = {
            step: call
            for step, call in one.captured.items()
            if any(attempt.end is not None for attempt in call.attempts.values())
        }
    return past


# -- the change


def _turn(
    whole: RecordedSession, past: RecordedSession, point: ForkPoint, edit: Edit
) -> ReplayPlace:
    """Find the model's turn that an edit changes."""
    place = point.place
    if place is None:
        place = next_turn(whole, past, of_tool=edit.changes_tool)
    elif place.client is not None:
        raise ConfigError(
            "edit is for agents; what a captured client sends is up to the program that calls it. "
            "Fork without edit, and let the program send something else there."
        )
    elif place.tool is not None:
        step = (place.step or 0) + 1
        place = msgspec.structs.replace(place, step=step, attempt=1, tool=None)
    if not any(one.session_id == place.session_id for one in past.family()):
        raise ReplayError(
            f"The first turn behind the point of the fork is in a session that begins later, "
            f"({place}). Name it: at=ReplayPlace(...)."
        )
    return place


def _prepare(whole: RecordedSession, past: RecordedSession, turn: ReplayPlace, edit: Edit) -> None:
    """Check that an edit fits a turn, and set the new result of the tool before the turn."""
    if edit.message is not None:
        call = _call_at(whole, turn)
        found = None if call is None else call.attempts.get((turn.step or 0, turn.attempt or 0))
        if found is not None:
            check_message(_last_message(found))
    if edit.changes_tool:
        call = _call_at(past, turn)
        attempts = [] if call is None else list(call.attempts.values())
        _change_tool(attempts, turn, edit)


def _call_at(recording: RecordedSession, turn: ReplayPlace) -> RecordedCall | None:
    for one in recording.family():
        if one.session_id == turn.session_id:
            calls = one.calls.get((turn.agent or "", turn.dialog or ""), [])
            return next((call for call in calls if call.nth == turn.respond), None)
    return None


def _last_message(attempt: RecordedAttempt) -> Content | None:
    messages = attempt.call.session.messages(attempt.requested)
    return content_of(messages[-1][1]) if messages else None


def _change_tool(attempts: Sequence[RecordedAttempt], turn: ReplayPlace, edit: Edit) -> None:
    before = [one for one in attempts if one.requested.step == (turn.step or 0) - 1]
    answered = [one for one in before if isinstance(one.end, LLMResponded) and one.tools]
    tools = answered[-1].tools if answered else []
    found = [
        tool
        for tool in tools
        if edit.tool is None or edit.tool in (tool.called.name, tool.called.call_id)
    ]
    if len(found) != 1:
        asked = ", ".join(f"{one.called.name} ({one.called.call_id})" for one in tools) or "none"
        which = "the tool" if edit.tool is None else f"tool {edit.tool!r}"
        raise ReplayError(
            f"Edit(tool_result=...) changes the result of {which} that was called right before "
            f"({turn}), and {len(found)} of those there fit; there are: {asked}. Name one as "
            "Edit(tool=...), or another place."
        )
    [tool] = found
    text, value = result_forms(edit.tool_result)
    called = tool.called
    content = Content("tool", Content.of("tool", text).parts, call_id=called.call_id)
    tool.end = ToolReturned(tool=called.tool, message=0, content=content, value=value, elapsed=0)
    tool.is_edited = True
