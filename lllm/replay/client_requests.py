"""What a captured client asks, in the form in which it is compared with recorded requests.

Two requests are the same where a client that sends an answer back could have made both: what only
an answer says, as thoughts that nobody signed, is not compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256

import msgspec

from lllm.events.model import AgentDefined, Content, LLMRequested, MessageAdded, ToolDefinition
from lllm.events.redaction.redact import Redact
from lllm.events.values.json_values import to_plain
from lllm.instrumentation.resent_answers import chained, digests_of, sent_again
from lllm.invokers.secret_params import without_secrets
from lllm.replay.comparison import codec_event, task_key
from lllm.replay.ignored_parts import Ignored


class ClientRequest(msgspec.Struct, frozen=True):
    """A request of a captured client.

    Attributes:
        client: What calls, as "openai.chat".
        operation: As llm.requested says it.
        api: The dialect.
        model: The one asked.
        contents: The messages.
        tools: Those that have a schema.
        params: All else that seldom or often changes.
        stream: True if the answer is to come piece by piece.
        body: Of the HTTP request.
        bedrock: True for Amazon Bedrock, which streams in frames of its own.
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
    """A request in the form that is compared.

    Attributes:
        settings: All but the messages, by name, as JSON values.
        contents: The messages.
        chain: What stands for each beginning of the messages, the empty one first.
        key: What stands for all of it.
    """

    settings: dict[str, object]
    contents: Sequence[Content]
    chain: list[bytes]
    key: bytes


Digest = Callable[[int, Content], bytes]


class ClientComparing:
    """Brings requests of captured clients into the form that is compared.

    Args:
        redact: The store's.
        ignored: What is left out.
    """

    def __init__(self, redact: Redact | None, ignored: Ignored) -> None:
        self._redact = redact
        self._ignored = ignored
        self._redacted: dict[bytes, Content] = {}  # by the digest of the message as it is asked

    def recorded(
        self, requested: LLMRequested, defined: AgentDefined | None, contents: Sequence[Content]
    ) -> ComparedRequest:
        """The form of a recorded request.

        Args:
            requested: It.
            defined: What it refers to.
            contents: What it sent.
        """
        settings = _settings(
            requested.operation, requested.model, requested.stream,
            () if defined is None else defined.tools,
            [None if defined is None else defined.params, requested.params],
        )  # fmt: skip
        return _compared(settings, contents, _digest)

    def asked(self, asked: ClientRequest) -> ComparedRequest:
        """The form of a request as it is asked now."""
        params = to_plain(without_secrets(asked.params))
        settings = _settings(asked.operation, asked.model, asked.stream, asked.tools, [params])
        return _compared(settings, asked.contents, _digest)

    def redacted(self, asked: ClientRequest) -> ComparedRequest:
        """The same as a reader of the log would get it."""
        params: object = to_plain(without_secrets(asked.params))
        tools = asked.tools
        written = codec_event(
            AgentDefined(name="", system="", model=asked.model, params=params, tools=tools),
            self._redact,
        )
        if isinstance(written, AgentDefined):
            params, tools = written.params, written.tools
        settings = _settings(asked.operation, asked.model, asked.stream, tools, [params])
        return _compared(settings, [*map(self._redact_message, asked.contents)], _digest)

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
        """A request without what is ignored."""
        settings = {
            name: self._ignored.without(value, name) for name, value in request.settings.items()
        }
        return _compared(settings, request.contents, self._digest_without)

    @property
    def ignores(self) -> bool:
        """True if anything is ignored."""
        return bool(self._ignored)

    def plain(self, index: int, content: Content) -> object:
        """A message as JSON values, without what is ignored."""
        return self._ignored.without(msgspec.to_builtins(content), "messages", str(index))

    def _digest_without(self, index: int, content: Content) -> bytes:
        return sha256(task_key(self.plain(index, sent_again(content)))).digest()


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
