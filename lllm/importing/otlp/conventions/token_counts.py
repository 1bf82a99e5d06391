"""Reads the tokens of a call from the attributes of its span.

An attribute that is missing says nothing: without input tokens, and, where there is an answer,
output tokens, the usage is unknown. 0 and 0 of an answered call are unknown as well: some libraries
write them where a stream brought no usage.
"""

from __future__ import annotations

from lllm.events.model import Usage
from lllm.importing.otlp.conventions.attribute_values import Attributes, number_in
from lllm.pricing import usage


class TokenNames:
    """The names that a convention gives to counts of tokens, with older ones.

    Args:
        input: All input tokens.
        output: All output tokens.
        cache_read: Those read from a cache.
        cache_write: Those written to a cache.
        cache_write_1h: Those of them that are kept for an hour.
        reasoning: The output tokens that are reasoning.
        audio_in: The input tokens that are audio.
        audio_out: The output tokens that are audio.
        total: The sum of input and output.
    """

    def __init__(
        self,
        *,
        input: tuple[str, ...],  # noqa: A002 # as in Usage
        output: tuple[str, ...],
        cache_read: tuple[str, ...] = (),
        cache_write: tuple[str, ...] = (),
        cache_write_1h: tuple[str, ...] = (),
        reasoning: tuple[str, ...] = (),
        audio_in: tuple[str, ...] = (),
        audio_out: tuple[str, ...] = (),
        total: tuple[str, ...] = (),
    ) -> None:
        self.input, self.output, self.total = input, output, total
        self.cache_read, self.cache_write = cache_read, cache_write
        self.cache_write_1h, self.reasoning = cache_write_1h, reasoning
        self.audio_in, self.audio_out = audio_in, audio_out


def usage_of(attributes: Attributes, names: TokenNames, *, has_output: bool = True) -> Usage | None:
    """Read the tokens of a call.

    Args:
        attributes: The attributes of its span.
        names: The names of the convention.
        has_output: False for embeddings, which have no output.

    Returns:
        The tokens; None if they are unknown.
    """
    went_in = number_in(attributes, *names.input)
    came_out = number_in(attributes, *names.output)
    if went_in is None or (came_out is None and has_output):
        return None
    if not went_in and not came_out:
        return None
    written = number_in(attributes, *names.cache_write) or 0
    for_an_hour = number_in(attributes, *names.cache_write_1h) or 0
    reasoning = number_in(attributes, *names.reasoning) or 0
    total = number_in(attributes, *names.total) or 0
    out = came_out or 0
    if reasoning and total == went_in + out + reasoning:
        out += reasoning  # counted in the total alone, as Google's API does
    return Usage(
        input=went_in,
        output=out,
        cache_read=number_in(attributes, *names.cache_read) or 0,
        cache_write_5m=written - for_an_hour,
        cache_write_1h=for_an_hour,
        reasoning=reasoning,
        audio_in=number_in(attributes, *names.audio_in) or 0,
        audio_out=number_in(attributes, *names.audio_out) or 0,
    )


def searches_in(attributes: Attributes) -> dict[str, object] | None:
    """Write the fees that Pydantic AI exports beside the tokens, as Anthropic's API has them.

    Args:
        attributes: The attributes of the span.

    Returns:
        A part of a usage, which the price needs; None if there were no searches.
    """
    searches = number_in(attributes, "gen_ai.usage.details.web_search_requests")
    return {"server_tool_use": {"web_search_requests": searches}} if searches else None


def usage_of_answer(raw: object) -> Usage | None:
    """Read the usage in an answer of OpenAI's or Anthropic's API.

    Args:
        raw: The usage as the provider sent it.

    Returns:
        The tokens; None if the usage is of another API, or says nothing.
    """
    if not isinstance(raw, dict):
        return None
    if "prompt_tokens" in raw and "completion_tokens" in raw:
        found = usage.of_chat(raw)
    elif "input_tokens_details" in raw:
        found = usage.of_responses(raw)
    elif "cache_creation_input_tokens" in raw or "cache_read_input_tokens" in raw:
        found = usage.of_messages(raw)
    else:
        return None
    return found if found is not None and (found.input or found.output) else None
