"""Describes the outcome of a recorded attempt in words, for the messages of divergences."""

from __future__ import annotations

from lllm.events.model import LLMFailed, LLMResponded
from lllm.replay.recorded_agents import RecordedAttempt
from lllm.replay.recorded_clients import ClientAttempt, ClientCall

_SHOWN = 200  # characters of each text that are shown


def client_outcome_text(call: ClientCall) -> str:
    """Describe the outcome of a recorded call of a captured client: that of its last attempt."""
    return outcome_text(list(call.attempts.values())[-1])


def outcome_text(attempt: RecordedAttempt | ClientAttempt) -> str:
    """Describe the outcome of a recorded attempt in words: its answer or its error."""
    end = attempt.end
    if end is None:
        return "no answer was recorded."
    if isinstance(end, LLMFailed):
        return f"the call failed: {end.error.type}: {_short(end.error.message)}"
    return f"{end.model} answered {_answer_text(end)}"


def _answer_text(end: LLMResponded) -> str:
    calls = [f"{call.name}({_short(call.arguments)})" for call in end.content.tool_calls]
    text = [repr(_short(end.content.text))] if end.content.text or not calls else []
    return ", ".join([*text, *calls])


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
