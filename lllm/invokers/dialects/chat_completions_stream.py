"""Joins the chunks of a streamed Chat Completion.

https://platform.openai.com/docs/api-reference/chat-streaming. Servers differ here, too: chunks
without choices or without an index, a whole message in the first chunk, the usage in each chunk or
in a last one, calls that share an index. Each difference is named beside the code that handles it.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lllm.invokers.dialects.chat_completions import THOUGHTS, others_of, text_of, thought_of
from lllm.invokers.dialects.growing_fields import GrowingText, grow
from lllm.invokers.dialects.provider_json import items, mapping, text
from lllm.invokers.http.errors import from_event

if TYPE_CHECKING:
    from collections.abc import Mapping

# Fields that are joined from their pieces, or are not part of a complete answer.
_NOT_KEPT = ("choices", "usage", "error", "object", "x_groq", "obfuscation")
_OF_CHOICE = ("index", "delta", "message", "finish_reason")
_OF_DELTA = (
    "role", "content", "refusal", "tool_calls", "function_call", "audio", *THOUGHTS,
)  # fmt: skip


@dataclass
class _Call:
    """One tool call, as far as it has arrived."""

    id: str = ""
    type: str = "function"
    name: str = ""
    arguments: GrowingText = field(default_factory=GrowingText)

    def body(self) -> dict[str, object]:
        text = self.arguments.text()
        inner = {"name": self.name, "input" if self.type == "custom" else "arguments": text}
        return {"id": self.id, "type": self.type, self.type: inner}


@dataclass
class _Sound:
    """An audio answer, as far as it has arrived."""

    fields: dict[str, object] = field(default_factory=dict)
    transcript: GrowingText = field(default_factory=GrowingText)
    data: list[str] = field(default_factory=list)

    def take(self, delta: Mapping[str, object]) -> None:
        for name, value in delta.items():
            if name in ("transcript", "data"):
                if isinstance(value, str):
                    (self.transcript if name == "transcript" else self.data).append(value)
            elif value is not None:
                self.fields[name] = value

    def body(self) -> dict[str, object]:
        transcript = self.transcript.text()
        return self.fields | {"data": _joined_base64(self.data), "transcript": transcript}


class _Choice:
    """One choice, as far as it has arrived."""

    def __init__(self, index: int) -> None:
        self._index = index
        self._message: dict[str, GrowingText] = {}
        self._calls: list[_Call] = []
        self._by_index: dict[int | None, _Call] = {}
        self._function: dict[str, object] = {}  # the older form of a tool call
        self._sound: _Sound | None = None
        self._pieces: list[object] = []  # pieces of the content that are neither text nor reasoning
        self._more_said: dict[str, object] = {}  # other fields of the message
        self._more: dict[str, object] = {}  # other fields beside the message
        self.finish: str | None = None

    @property
    def begun(self) -> bool:
        """True if any output of the model has arrived."""
        return bool(
            self._message or self._calls or self._function or self._sound or self._pieces
            or any(self._more_said.values())
        )  # fmt: skip

    def take(self, choice: Mapping[str, object]) -> str:
        """Add one piece; returns the new text."""
        finish = choice.get("finish_reason")
        if isinstance(finish, str) and finish:
            self.finish = finish
        for name, value in choice.items():
            if name not in _OF_CHOICE:
                grow(self._more, name, value)
        # Perplexity sends the message so far beside each delta; some servers send it in place of
        # one.
        delta = choice.get("delta")
        said = mapping(delta if isinstance(delta, dict) else choice.get("message"))
        for name in THOUGHTS:
            self._add(name, said.get(name))
        content = said.get("content")
        self._add(THOUGHTS[0], thought_of(content))
        self._pieces += others_of(content)
        self._add("refusal", said.get("refusal"))
        for call in items(said.get("tool_calls")):
            self._call(mapping(call))
        for name, value in mapping(said.get("function_call")).items():
            grow(self._function, name, value)
        if isinstance(said.get("audio"), dict):
            self._sound = self._sound or _Sound()
            self._sound.take(mapping(said["audio"]))
        for name, value in said.items():
            if name not in _OF_DELTA:
                grow(self._more_said, name, value, joins=True)
        return self._add("content", text_of(content))

    def _add(self, name: str, piece: object) -> str:
        if not isinstance(piece, str) or not piece:
            return ""
        self._grown(name).append(piece)
        return piece

    def _grown(self, name: str) -> GrowingText:
        found = self._message.get(name)
        if found is None:
            found = self._message[name] = GrowingText()
        return found

    def _call(self, piece: Mapping[str, object]) -> None:
        said = mapping(piece.get("function")) or mapping(piece.get("custom"))
        identity, name = text(piece.get("id")) or "", text(said.get("name")) or ""
        call = self._call_of(piece.get("index"), identity, name)
        call.id = call.id or identity
        call.name = call.name or name
        if "custom" in piece:
            call.type = "custom"
        arguments = said.get("arguments", said.get("input"))
        if isinstance(arguments, str):
            call.arguments.append(arguments)
        elif arguments is not None:
            call.arguments = GrowingText(json.dumps(arguments))

    def _call_of(self, index: object, identity: str, name: str) -> _Call:
        """Find the tool call that a piece belongs to.

        Gemini and Ollama give several calls the same index, or none. A piece with a name and
        another id than the call with that index begins a new call. Another id alone does not,
        because vLLM has sent a new one with each piece.
        """
        place = index if type(index) is int else None
        known = self._by_index.get(place)
        if known is not None:
            other = identity != known.id if identity else place is None
            if not (name and known.name and other):
                return known
        call = self._by_index[place] = _Call()
        self._calls.append(call)
        return call

    def body(self) -> dict[str, object]:
        """Join the choice in the form of an answer that was not streamed."""
        message: dict[str, object] = {"role": "assistant", "content": None}
        message |= {name: grown.text() for name, grown in self._message.items()}
        if self._pieces:
            text = [{"type": "text", "text": message["content"]}] if message["content"] else []
            message["content"] = [*text, *self._pieces]
        if self._calls:
            message["tool_calls"] = [call.body() for call in self._calls]
        if self._function:
            message["function_call"] = self._function
        if self._sound is not None:
            message["audio"] = self._sound.body()
        message |= self._more_said
        return {"index": self._index, "message": message, "finish_reason": self.finish} | self._more


class ChatStream:
    """Joins the chunks of a streamed Chat Completion; see Assembly."""

    def __init__(self) -> None:
        self._whole: dict[str, object] = {}
        self._choices: dict[int, _Choice] = {}
        self._usage: object = None
        self._running = False
        self._choices_seen = False

    @property
    def begun(self) -> bool:
        """True if any output of the model has arrived; see Assembly."""
        return any(choice.begun for choice in self._choices.values())

    @property
    def complete(self) -> bool:
        """True if the reason why the model stopped has arrived; see Assembly."""
        finishes = [choice.finish for choice in self._choices.values()]
        return bool(finishes) and all(finish is not None for finish in finishes)

    @property
    def settled(self) -> bool:
        """True if the usage so far is final; see Assembly.

        Some servers send the usage so far with each piece, from the first one on:
        https://docs.vllm.ai/en/latest/api/vllm/entrypoints/openai/ (continuous_usage_stats).
        """
        return self.complete or (self._usage is not None and not self._running)

    def take(self, event: Mapping[str, object]) -> str:
        """Add the next chunk; see Assembly."""
        groq = mapping(event.get("x_groq"))
        # Groq's own field for the usage is older than stream_options: https://console.groq.com/docs
        for usage in (groq.get("usage"), event.get("usage")):
            if usage is not None:
                self._usage = usage
                begins = bool(event.get("choices")) and not self._choices_seen
                self._running = (self._running or begins) and bool(event.get("choices"))
        self._choices_seen = self._choices_seen or bool(event.get("choices"))
        failed = event.get("error") or groq.get("error")
        if failed:
            raise from_event({"error": failed})
        if "choices" not in event and self._usage is None:
            return ""  # not a chunk, but a message from a proxy
        for name, value in event.items():
            # some of Azure's chunks name no model
            if name not in _NOT_KEPT and value not in (None, ""):
                self._whole[name] = value
        new = ""
        for choice in items(event.get("choices")):
            said = mapping(choice)
            index = said.get("index")
            place = index if type(index) is int else 0
            text = self._choices.setdefault(place, _Choice(place)).take(said)
            new += text if place == 0 else ""
        return new

    def body(self) -> dict[str, object]:
        """Join what has arrived; see Assembly."""
        if not self._choices and self._usage is None:
            return {}
        choices = [self._choices[index].body() for index in sorted(self._choices)]
        # The usage may arrive without any output of the model.
        choices = choices or [_Choice(0).body()]
        body = self._whole | {"object": "chat.completion", "choices": choices}
        return body if self._usage is None else body | {"usage": self._usage}


def _joined_base64(pieces: list[str]) -> str:
    """Join audio in base64, whose pieces may each have padding."""
    try:
        data = b"".join(base64.b64decode(piece, validate=True) for piece in pieces)
    except ValueError:
        return "".join(pieces)
    return base64.b64encode(data).decode()
