"""Brings requests of captured clients into the form in which they are compared.

A client may send an earlier answer back with less than the model sent, for example without unsigned
thoughts. Such parts are not compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256

import msgspec

from lllm.events.model import AgentDefined, Content, LLMRequested, MessageAdded, ToolDefinition
from lllm.events.redaction.redact import Redact
from lllm.events.values.json_values import to_plain
from lllm.instrumentation.resent_answers import chained, digests_of, sent_again, sent_apart
from lllm.invokers.secret_params import without_secrets
from lllm.replay.comparison import codec_event, task_key
from lllm.replay.ignored_parts import Ignored


class ClientRequest(msgspec.Struct, frozen=True):
    """A request of a captured client.

    Attributes:
        client: What the client calls, such as "openai.chat".
        operation: The name of the operation, as the event llm.requested has it.
        api: The dialect of the HTTP API.
        model: The name of the model.
        contents: The messages, oldest first.
        tools: The tools that have a schema.
        params: All other parameters of the request.
        stream: True if the answer is streamed.
        body: The JSON body of the HTTP request.
        bedrock: True for Amazon Bedrock, which streams in a frame format of its own.
    """

    client: str
    operation: str
    api: str
    model: str
    contents: tuple[Content, ...]
    tools: tuple[ToolDefinition, ...]
    params: Mapping[str, object]
    stream: bool
    body: Mapping[str, object]
    bedrock: bool


class ComparedRequest(msgspec.Struct, frozen=True):
    """A request in the form in which it is compared.

    Attributes:
        settings: Everything but the messages, by name, as JSON values.
        contents: The messages, oldest first.
        chain: The digests of the first 0, 1, 2 and more messages, up to all of them.
        key: The digest of the whole request; equal requests have the same key.
    """

    settings: dict[str, object]
    contents: Sequence[Content]
    chain: list[bytes]
    key: bytes


Digest = Callable[[int, Content], bytes]


class ClientComparing:
    """Brings requests of captured clients into the form in which they are compared.

    Args:
        redact: The store's filter of what is logged; None if it has none.
        ignored: The parts that a comparison leaves out.
    """

    def __init__(self, redact: Redact | None, ignored: Ignored) -> None:
        self._redact = redact
        self._ignored = ignored
        self._redacted: dict[bytes, Content] = {}  # by the digest of the message as it is asked

    def recorded(
        self, requested: LLMRequested, defined: AgentDefined | None, contents: Sequence[Content]
    ) -> ComparedRequest:
        """Bring a recorded request into the form in which it is compared.

        Args:
            requested: The event of the request.
            defined: The event with the tools and parameters of the request; None if there is none.
            contents: The messages that the request sent, oldest first.
        """
        settings = _settings(
            requested.operation, requested.model, requested.stream,
            () if defined is None else defined.tools,
            [None if defined is None else defined.params, requested.params],
        )  # fmt: skip
        return _compared(settings, _items(requested.api, contents), _digest)

    def asked(self, asked: ClientRequest) -> ComparedRequest:
        """Bring a request into the form in which it is compared, without redacting it.

        Args:
            asked: The request of the client.
        """
        params = to_plain(without_secrets(asked.params))
        settings = _settings(asked.operation, asked.model, asked.stream, asked.tools, [params])
        return _compared(settings, _items(asked.api, asked.contents), _digest)

    def redacted(self, asked: ClientRequest) -> ComparedRequest:
        """Bring a request into the form in which it is compared, redacted as in the log.

        Args:
            asked: The request of the client.
        """
        params: object = to_plain(without_secrets(asked.params))
        tools = asked.tools
        written = codec_event(
            AgentDefined(name="", system="", model=asked.model, params=params, tools=tools),
            self._redact,
        )
        if isinstance(written, AgentDefined):
            params, tools = written.params, written.tools
        settings = _settings(asked.operation, asked.model, asked.stream, tools, [params])
        contents = [*map(self._redact_message, asked.contents)]
        return _compared(settings, _items(asked.api, contents), _digest)

    def _redact_message(self, content: Content) -> Content:
        digest, _ = digests_of(content)
        found = self._redacted.get(digest)
        if found is None:
            why = "system" if content.role == "system" else "user"
            event = MessageAdded(message=1, dialog=1, content=content, why=why)
            written = codec_event(event, self._redact)
            found = written.content if isinstance(written, MessageAdded) else content
            self._redacted[digest] = found
        return found

    def without_ignored(self, request: ComparedRequest) -> ComparedRequest:
        """Remove the ignored parts from a request.

        Args:
            request: The request, in the form in which it is compared.
        """
        settings = {
            name: self._ignored.without(value, name) for name, value in request.settings.items()
        }
        return _compared(settings, request.contents, self._digest_without)

    @property
    def ignores(self) -> bool:
        """True if anything is ignored."""
        return bool(self._ignored)

    def plain(self, index: int, content: Content) -> object:
        """Convert a message to JSON values, without the ignored parts.

        Args:
            index: The number of the message in the request, from 0.
            content: The message.
        """
        return self._ignored.without(msgspec.to_builtins(content), "messages", str(index))

    def _digest_without(self, index: int, content: Content) -> bytes:
        return sha256(task_key(self.plain(index, sent_again(content)))).digest()


def _items(api: str | None, contents: Sequence[Content]) -> Sequence[Content]:
    """Divide answers into the items as which a client of the Responses API sends them back."""
    if api != "responses":
        return contents
    return [item for content in contents for item in sent_apart(content) or (content,)]


def _digest(_: int, content: Content) -> bytes:
    return digests_of(content)[1]


def _settings(
    operation: str,
    model: str,
    stream: bool,
    tools: Sequence[ToolDefinition],
    params: Sequence[object],
) -> dict[str, object]:
    given: dict[str, object] = {}
    for one in params:
        given |= one if isinstance(one, dict) else {}
    return {
        "operation": operation,
        "model": model,
        "stream": stream,
        "params": given,
        "tools": [msgspec.to_builtins(tool) for tool in tools],
    }


def _compared(
    settings: dict[str, object], contents: Sequence[Content], digest: Digest
) -> ComparedRequest:
    chain = [b""]
    for index, content in enumerate(contents):
        chain.append(chained(chain[-1], digest(index, content)))
    key = sha256(task_key(settings) + chain[-1]).digest()
    return ComparedRequest(settings, contents, chain, key)
