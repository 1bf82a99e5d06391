"""Reads requests and answers of OpenAI's older completions API, which continues a prompt.

The fields are documented at https://platform.openai.com/docs/api-reference/completions. They are
renamed to those of Chat Completions, and then read by its reader.
"""

from __future__ import annotations

from collections.abc import Mapping

from lllm.invokers import Answer
from lllm.invokers.dialects import chat_completions
from lllm.invokers.dialects.chat_completions_stream import ChatStream
from lllm.invokers.dialects.dialect import Dialect, no_payload

API = "completions"


def answer(body: object, *, model: str, request_id: str | None) -> Answer:
    """Read an Answer from a provider's JSON.

    Args:
        body: The provider's answer, decoded from JSON.
        model: The requested model, used if the answer names none.
        request_id: The provider's id of the request; None if it sent none.

    Returns:
        The answer in lllm's terms.

    Raises:
        InvokeError: The body has no text.
    """
    whole = _as_chat(body, "message") if isinstance(body, dict) else body
    return chat_completions.answer(whole, model=model, request_id=request_id)


class CompletionsStream(ChatStream):
    """Joins the pieces of a streamed completion; see Assembly."""

    def take(self, event: Mapping[str, object]) -> str:
        """Add an event of the stream; see Assembly."""
        return super().take(_as_chat(event, "delta"))


def _as_chat(body: Mapping[str, object], said: str) -> dict[str, object]:
    """Rename the fields of a body to those of Chat Completions; `said` names its text."""
    choices = body.get("choices")
    if not isinstance(choices, list):
        return dict(body)
    return dict(body) | {"choices": [_choice(choice, said) for choice in choices]}


def _choice(choice: object, said: str) -> object:
    if not isinstance(choice, dict) or "text" not in choice:
        return choice
    more = {name: value for name, value in choice.items() if name != "text"}
    return {said: {"content": choice["text"]}} | more


COMPLETIONS = Dialect(API, no_payload, answer, CompletionsStream)
