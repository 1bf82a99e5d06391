"""What each dialect of a model's API gives: a request's JSON, an answer, and an answer in pieces.

A dialect has two modules that touch no network, so that invokers and recorded clients share them:
one with `payload` and `answer`, one with the class that puts a streamed answer together. It only
takes and keeps what the provider says; who reads the bytes is decided elsewhere.

    for data in decoder.feed(chunk):
        text = assembly.take(json.loads(data))
    answer(assembly.body(), model=..., request_id=...)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from lllm.events.errors import ConfigError
from lllm.events.model import Part
from lllm.invokers import Answer, Request


class Assembly(Protocol):
    """A streamed answer, as far as it has come."""

    def take(self, event: Mapping[str, object]) -> str:
        """Take in one event, the JSON of an SSE `data`; returns the new text of the answer, "" for
        none. Reasoning, refusals and tool calls are no text.

        An event that is unknown, or not as documented, is passed over. Raises InvokeError, without
        `partial`, for an event that says the answer failed.
        """

    @property
    def begun(self) -> bool:
        """Whether anything that the model said has come: text, reasoning, a refusal, or a piece of
        a tool call."""

    @property
    def complete(self) -> bool:
        """Whether the provider has said why the model stopped, so that nothing of the answer is
        missing. Its usage may still come."""

    @property
    def settled(self) -> bool:
        """Whether the usage that has come is the provider's last word, though the answer failed;
        that of an answer that was cut off may still have grown."""

    def body(self) -> dict[str, object]:
        """What has come so far, in the form of an answer that was not streamed; {} for nothing.

        It may be asked for at any time. Of a tool call that was cut off it holds the arguments as
        far as they came.
        """


class Payload(Protocol):
    """Makes the body of the HTTP request.

    Raises ConfigError for a param that the request says elsewhere, and InvokeError for what the
    dialect can't carry.
    """

    def __call__(self, request: Request, *, stream: bool = False) -> dict[str, object]: ...


class Reader(Protocol):
    """Makes an Answer of the provider's JSON; `model` is the one asked, for those that name none.

    Raises InvokeError where it holds no answer.
    """

    def __call__(self, body: object, *, model: str, request_id: str | None) -> Answer: ...


@dataclass(frozen=True)
class Dialect:
    """One API. name: as events record it ("chat.completions")."""

    name: str
    payload: Payload
    answer: Reader
    assembly: Callable[[], Assembly]


def refuse_params(
    request: Request, *names: str, why: str = "lllm decides it for each request"
) -> None:
    """Raises ConfigError where the params of a request say what is not theirs to say."""
    for name in names:
        if name in request.params:
            raise ConfigError(f"params can't set {name!r}: {why}.")


def more_of(said: Mapping[str, object], known: Collection[str]) -> tuple[Part, ...]:
    """What a provider says beside the fields that have words of ours: each a part of the field's
    name, with the JSON under that name as its data. What is empty says nothing.

    known: the fields that are read elsewhere, or that say again what was asked.
    """
    return tuple(
        Part(name, data={name: value})
        for name, value in said.items()
        if name not in known and value is not None and value not in ("", [], {})
    )
