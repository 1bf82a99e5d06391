"""The interface of a dialect: how one API writes requests and answers, whole or streamed.

A dialect has two modules that touch no network, so that invokers and recorded clients share them:
one with `payload` and `answer`, one with the class that puts a streamed answer together. It only
takes and keeps what the provider says; who reads the bytes is decided elsewhere.

    for data in decoder.feed(chunk):
        text = assembly.take(json.loads(data))
    answer(assembly.body(), model=..., request_id=...)
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from lllm.events.errors import ConfigError, InvokeError
from lllm.events.model import Part
from lllm.invokers import Answer, Request


class Assembly(Protocol):
    """A streamed answer that is being joined from its events."""

    def take(self, event: Mapping[str, object]) -> str:
        """Add the next event.

        An event that is unknown, or not as documented, is passed over.

        Args:
            event: The JSON of an SSE `data`.

        Returns:
            The new text of the answer, "" for none. Reasoning, refusals and tool calls are no text.

        Raises:
            InvokeError: The event says that the answer failed. The error has no `partial`.
        """

    @property
    def begun(self) -> bool:
        """True if any output of the model has arrived.

        That is text, reasoning, a refusal, or a piece of a tool call.
        """

    @property
    def complete(self) -> bool:
        """True if the provider has sent the reason why the model stopped.

        Its usage may still come.
        """

    @property
    def settled(self) -> bool:
        """True if the usage so far is final, even though the answer failed.

        That of an answer that was cut off may still have grown.
        """

    def body(self) -> dict[str, object]:
        """Join what has arrived, in the form of an answer that was not streamed.

        It may be asked for at any time.

        Returns:
            The body, {} for nothing. Of a tool call that was cut off it holds the arguments as far
            as they came.
        """


class Payload(Protocol):
    """Makes the body of the HTTP request.

    Raises:
        ConfigError: A param is one that the request says elsewhere.
        InvokeError: The dialect can't carry something in it.
    """

    def __call__(self, request: Request, *, stream: bool = False) -> dict[str, object]:
        """Make the request body, for a whole or a streamed answer."""


class Reader(Protocol):
    """Makes an Answer from the provider's JSON; `model` is used if the JSON names none.

    Raises:
        InvokeError: The JSON holds no answer.
    """

    def __call__(self, body: object, *, model: str, request_id: str | None) -> Answer:
        """Read the Answer from a body."""


@dataclass(frozen=True)
class Dialect:
    """The functions that write requests and read answers of one API.

    Attributes:
        name: As events record it ("chat.completions").
        payload: Makes the body of a request.
        answer: Reads the body of an answer.
        assembly: Makes what puts a streamed answer together.
    """

    name: str
    payload: Payload
    answer: Reader
    assembly: Callable[[], Assembly]


def no_payload(request: Request, *, stream: bool = False) -> dict[str, object]:
    """Raise an error: this dialect is only recorded, and agents can't use it.

    Raises:
        NotImplementedError: Always.
    """
    raise NotImplementedError(f"no agent asks like this: {request!r:.80}, {stream}")


def refuse_params(
    request: Request, *names: str, why: str = "lllm decides it for each request"
) -> None:
    """Refuse parameters that callers must not set.

    Args:
        request: With the params.
        *names: Of those that are refused.
        why: The reason, as the end of a sentence.

    Raises:
        ConfigError: The request has one of them.
    """
    for name in names:
        if name in request.params:
            raise ConfigError(f"params can't set {name!r}: {why}.")


def schema_name(schema: Mapping[str, object]) -> str:
    """Name the schema of an answer after its title, in the characters that OpenAI allows.

    https://platform.openai.com/docs/api-reference/chat/create#chat-create-response_format: at most
    64 letters, digits, underscores and dashes.

    Args:
        schema: A JSON schema.

    Returns:
        The name.
    """
    title = schema.get("title")
    name = re.sub(r"[^a-zA-Z0-9_-]", "_", title)[:64] if isinstance(title, str) else ""
    return name or "answer"


def data_of(part: Part) -> object:
    """Read the data of a part; bytes are encoded in base64."""
    return base64.b64encode(part.data).decode() if isinstance(part.data, bytes) else part.data


def not_carried(part: Part, dialect: str) -> InvokeError:
    """Make the error for a part of a message that a dialect can't express.

    Args:
        part: Of the message.
        dialect: As people call it.

    Returns:
        The error, which no retry mends.
    """
    return InvokeError(
        f"A message has a part of kind {part.kind!r} that {dialect} can't carry as it is: give its "
        "data as a dict in the provider's form.",
        retryable=False,
    )


def more_of(said: Mapping[str, object], known: Collection[str]) -> tuple[Part, ...]:
    """Keep the fields of a provider's JSON that lllm has no field for.

    Args:
        said: The provider's JSON.
        known: The fields that are read elsewhere, or that say again what was asked.

    Returns:
        A part of each other field's name, with the JSON under that name as its data. What is empty
        says nothing.
    """
    return tuple(
        Part(name, data={name: value})
        for name, value in said.items()
        if name not in known and value is not None and value not in ("", [], {})
    )
