"""The interface of a dialect: how one API writes requests and answers, whole or streamed.

A dialect has two modules, which use no network, so that invokers and recorded clients share them:
one with `payload` and `answer`, and one with the class that joins a streamed answer. They only
parse what the provider sends; reading the bytes is the task of other modules.

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
        """Add the next event of the stream.

        An unknown or undocumented event is ignored.

        Args:
            event: The JSON of the `data` field of a server-sent event.

        Returns:
            The new text of the answer; "" for none. Reasoning, refusals and tool calls are not
            text.

        Raises:
            InvokeError: The event reports that the answer failed. The error has no `partial`.
        """

    @property
    def begun(self) -> bool:
        """True if any output of the model has arrived.

        That is text, reasoning, a refusal, or a piece of a tool call.
        """

    @property
    def complete(self) -> bool:
        """True if the provider has sent the reason why the model stopped.

        The usage may still follow.
        """

    @property
    def settled(self) -> bool:
        """True if the usage so far is final, even though the answer failed.

        The usage of an interrupted answer may have grown after it was sent.
        """

    def body(self) -> dict[str, object]:
        """Join what has arrived, in the form of an answer that was not streamed.

        It may be called at any time.

        Returns:
            The body; {} if nothing has arrived. An interrupted tool call has the part of its
            arguments that arrived.
        """


class Payload(Protocol):
    """Makes the body of the HTTP request.

    Raises:
        ConfigError: A param belongs to a field of the Request.
        InvokeError: Something in the request has no form in the dialect.
    """

    def __call__(self, request: Request, *, stream: bool = False) -> dict[str, object]:
        """Make the request body, for a whole or a streamed answer."""


class Reader(Protocol):
    """Makes an Answer from the provider's JSON; `model` is used if the JSON names none.

    Raises:
        InvokeError: The JSON has no answer.
    """

    def __call__(self, body: object, *, model: str, request_id: str | None) -> Answer:
        """Read the Answer from a body."""


@dataclass(frozen=True)
class Dialect:
    """The functions that write requests and read answers of one API.

    Attributes:
        name: The name of the dialect in events, such as "chat.completions".
        payload: A function that makes the body of a request.
        answer: A function that reads the body of an answer.
        assembly: A function that makes the object that joins a streamed answer.
    """

    name: str
    payload: Payload
    answer: Reader
    assembly: Callable[[], Assembly]


def no_payload(request: Request, *, stream: bool = False) -> dict[str, object]:
    """Raise an error, because this dialect is only recorded and agents can't use it.

    Raises:
        NotImplementedError: Always.
    """
    raise NotImplementedError(f"no agent asks like this: {request!r:.80}, {stream}")


def refuse_params(
    request: Request, *names: str, why: str = "lllm decides it for each request"
) -> None:
    """Refuse parameters that callers must not set.

    Args:
        request: The request with the params.
        *names: The names of the refused params.
        why: The reason, as the end of a sentence.

    Raises:
        ConfigError: The request has one of these params.
    """
    for name in names:
        if name in request.params:
            raise ConfigError(f"params can't set {name!r}: {why}.")


def schema_name(schema: Mapping[str, object]) -> str:
    """Make a name for the schema of an answer from its title, in the characters that OpenAI allows.

    https://platform.openai.com/docs/api-reference/chat/create#chat-create-response_format: at most
    64 letters, digits, underscores and dashes.

    Args:
        schema: The JSON schema.

    Returns:
        The name, never empty.
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
        part: The part of a message.
        dialect: The dialect's name for people.

    Returns:
        The error, which is not retryable.
    """
    return InvokeError(
        f"A message has a part of kind {part.kind!r} that {dialect} can't carry as it is: give its "
        "data as a dict in the provider's form.",
        retryable=False,
    )


def more_of(said: Mapping[str, object], known: Collection[str]) -> tuple[Part, ...]:
    """Keep the fields of a provider's JSON that lllm has no field of its own for.

    Args:
        said: The provider's JSON.
        known: The fields that are read elsewhere, or that repeat the request.

    Returns:
        A part for each other field that is not empty; its kind is the field's name, and its data is
        the JSON.
    """
    return tuple(
        Part(name, data={name: value})
        for name, value in said.items()
        if name not in known and value is not None and value not in ("", [], {})
    )
