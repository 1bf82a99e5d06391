"""The sessions that every viewer is given: a question, a tool, an answer; one in ten fails.

They are written as transcripts of Claude Code, which lllm and agentsview read, and as spans of
OpenTelemetry with OpenInference's names, which Phoenix takes. Texts, models, tokens, times and
failures are the same in both.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import msgspec

from benchmarks.peers.session import texts

MODEL = "claude-sonnet-4-5"
ERROR = "API Error: 529 overloaded_error: Overloaded"
_BETWEEN = dt.timedelta(minutes=1)  # the starts of two sessions
_AGO = dt.timedelta(days=2)  # since the newest: lllm takes what is a day old for ended
_PROJECTS = 20  # folders in which the sessions ran


class Conversation(msgspec.Struct, frozen=True):
    """One session.

    Attributes:
        number: Its number, from 0; later ones began later.
        started: Its start.
        question: What was asked.
        looked_up: What the tool answered.
        answer: The last answer; None where the last call failed.
        tokens: The tokens that the two calls took in and gave out.
    """

    number: int
    started: dt.datetime
    question: str
    looked_up: str
    answer: str | None
    tokens: tuple[tuple[int, int], tuple[int, int]]

    @property
    def session_id(self) -> str:
        """A UUID, the same for the same number."""
        return f"5e55{self.number:04x}-0000-4000-8000-{self.number:012x}"

    def moment(self, seconds: float) -> dt.datetime:
        """A time after its start."""
        return self.started + dt.timedelta(seconds=seconds)


def conversations(count: int) -> Iterator[Conversation]:
    """The same sessions for the same count, oldest first; the newest began two days ago."""
    chance, said = random.Random(1), texts(1)
    begin = dt.datetime.now(dt.UTC).replace(microsecond=0) - _AGO - count * _BETWEEN
    for number in range(count):
        question, looked_up, answer = islice(said, 3)
        tokens = chance.randrange(500, 5_000), chance.randrange(50, 500)
        yield Conversation(
            number=number,
            started=begin + number * _BETWEEN,
            question=f"Question {number}: {question}",
            looked_up=looked_up,
            answer=None if number % 10 == 9 else answer,
            tokens=(tokens, (tokens[0] + 200, tokens[1])),
        )


def write_transcripts(folder: Path, count: int) -> None:
    """Write a file for each session below a folder, as Claude Code has them in ~/.claude/projects.

    Args:
        folder: The folder that Claude Code calls `projects`.
        count: The number of sessions.
    """
    for one in conversations(count):
        project = folder / f"-home-ann-project{one.number % _PROJECTS}"
        project.mkdir(parents=True, exist_ok=True)
        path = project / f"{one.session_id}.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in _lines(one)))
        ended = one.moment(10).timestamp()
        os.utime(path, (ended, ended))


def _lines(one: Conversation) -> Iterator[dict[str, object]]:
    tool = {"type": "tool_use", "id": f"toolu_{one.number}", "name": "Grep",
            "input": {"pattern": f"order {one.number}"}}  # fmt: skip
    result = {"type": "tool_result", "tool_use_id": f"toolu_{one.number}", "content": one.looked_up}
    yield _line(one, 1, 0, "user", {"role": "user", "content": one.question})
    yield _line(one, 2, 3, "assistant", _answered(one, 0, tool, "tool_use"))
    yield _line(one, 3, 4, "user", {"role": "user", "content": [result]})
    if one.answer is not None:
        text = {"type": "text", "text": one.answer}
        yield _line(one, 4, 8, "assistant", _answered(one, 1, text, "end_turn"))
    else:
        failed = {"role": "assistant", "model": "<synthetic>", "id": f"msg_{one.number}_1",
                  "content": [{"type": "text", "text": ERROR}]}  # fmt: skip
        yield _line(one, 4, 8, "assistant", failed) | {"isApiErrorMessage": True}


def _answered(
    one: Conversation, call: int, block: dict[str, object], stop: str
) -> dict[str, object]:
    tokens_in, tokens_out = one.tokens[call]
    return {
        "id": f"msg_{one.number}_{call}", "role": "assistant", "model": MODEL, "type": "message",
        "content": [block], "stop_reason": stop,
        "usage": {"input_tokens": tokens_in, "output_tokens": tokens_out,
                  "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0},
    }  # fmt: skip


def _line(
    one: Conversation, place: int, seconds: float, kind: str, message: dict[str, object]
) -> dict[str, object]:
    made: dict[str, object] = {
        "parentUuid": None if place == 1 else f"{one.session_id[:-2]}{place - 1:02x}",
        "uuid": f"{one.session_id[:-2]}{place:02x}", "sessionId": one.session_id, "type": kind,
        "isSidechain": False, "userType": "external", "version": "2.0.14", "gitBranch": "main",
        "cwd": f"/home/ann/project{one.number % _PROJECTS}",
        "timestamp": one.moment(seconds).strftime("%Y-%m-%dT%H:%M:%S.000Z"), "message": message,
    }  # fmt: skip
    if kind == "assistant":
        made["requestId"] = f"req_{one.number}_{place}"
    return made


class Span(msgspec.Struct, frozen=True):
    """One span of OpenTelemetry, with times in nanoseconds UTC.

    Attributes:
        parent: The place of its parent among the spans of the session; None for the root.
        error: The text of its failure; None if it succeeded.
    """

    name: str
    parent: int | None
    begin: int
    end: int
    attributes: dict[str, str | int]
    error: str | None = None


def spans_of(one: Conversation) -> list[Span]:
    """A session as spans, the root first, with the names of OpenInference."""
    error = ERROR if one.answer is None else None
    session: dict[str, str | int] = {"session.id": one.session_id}
    asked: dict[str, str | int] = {
        "llm.input_messages.0.message.role": "user",
        "llm.input_messages.0.message.content": one.question,
    }
    tool = {
        "message.role": "assistant",
        "message.tool_calls.0.tool_call.function.name": "Grep",
        "message.tool_calls.0.tool_call.function.arguments": f'{{"pattern": "order {one.number}"}}',
    }
    results: dict[str, str | int] = {
        "llm.input_messages.1.message.role": "tool",
        "llm.input_messages.1.message.content": one.looked_up,
    }
    answer: dict[str, str | int] = {
        "llm.output_messages.0.message.role": "assistant",
        "llm.output_messages.0.message.content": one.answer or "",
        "output.value": one.answer or "",
    }
    return [
        Span(
            "claude-code", None, _nanoseconds(one, 0), _nanoseconds(one, 8),
            session | {"openinference.span.kind": "AGENT", "input.value": one.question}
            | ({"output.value": one.answer} if one.answer else {}),
            error,
        ),
        Span(
            MODEL, 0, _nanoseconds(one, 0), _nanoseconds(one, 3),
            session | asked | _tokens(one, 0) | {"input.value": one.question}
            | {f"llm.output_messages.0.{name}": value for name, value in tool.items()},
        ),
        Span(
            "Grep", 0, _nanoseconds(one, 3), _nanoseconds(one, 4),
            session | {"openinference.span.kind": "TOOL", "tool.name": "Grep",
                       "input.value": f"order {one.number}", "output.value": one.looked_up},
        ),
        Span(
            MODEL, 0, _nanoseconds(one, 4), _nanoseconds(one, 8),
            session | asked | results | {"input.value": one.looked_up}
            | (answer | _tokens(one, 1) if error is None else _llm()),
            error,
        ),
    ]  # fmt: skip


def _llm() -> dict[str, str | int]:
    return {
        "openinference.span.kind": "LLM", "llm.model_name": MODEL, "llm.provider": "anthropic",
        "llm.system": "anthropic",
    }  # fmt: skip


def _tokens(one: Conversation, call: int) -> dict[str, str | int]:
    tokens_in, tokens_out = one.tokens[call]
    return _llm() | {
        "llm.token_count.prompt": tokens_in, "llm.token_count.completion": tokens_out,
        "llm.token_count.total": tokens_in + tokens_out,
    }  # fmt: skip


def _nanoseconds(one: Conversation, seconds: int) -> int:
    return int(one.moment(seconds).timestamp()) * 1_000_000_000
