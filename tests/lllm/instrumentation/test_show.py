"""`lllm show` of calls of a client: what was said, and the tools, as for an agent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from lllm import LogStore
from tests.lllm.cli.test_cli import Run
from tests.lllm.instrumentation.asking import CHAT, CLAUDE
from tests.support import loopback, loopback_messages, loopback_responses
from tests.support.loopback import Loopback

TOOLS: Any = [{"type": "function", "function": {"name": "population", "parameters": {}}}]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(capsys)


def shown(run: Run, store: LogStore, session_id: str) -> list[str]:
    """The lines of the tree, without its branches."""
    path = next(Path(one[2]) for one in store._rows.database.query("PRAGMA database_list"))
    lines = run("show", session_id, "--store", path).splitlines()
    return [line.lstrip("│├└─ ") for line in lines]


def between(lines: list[str], first: str, last: str) -> list[str]:
    """The lines behind one that begins so, before the next one that begins otherwise."""
    start = next(n for n, line in enumerate(lines) if line.startswith(first))
    end = next(n for n, line in enumerate(lines) if n > start and line.startswith(last))
    return [line for line in lines[start + 1 : end] if not line[0].isdigit()]


def test_a_conversation_with_tools(
    server: Loopback, store: LogStore, client: openai.OpenAI, run: Run
) -> None:
    """Each call shows what it was the first to say, the tools that it asked for with what came of
    them, and its answer; what is sent again with every turn is shown once."""
    server.answers(
        loopback.tool_calls(("population", '{"city":"Berlin"}'), ("population", '{"city":"Rome"}')),
        loopback.text("3.7 million."),
        loopback.text("You are welcome."),
    )
    messages: Any = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "How many live in Berlin?"},
    ]
    with store.session("my::script") as recorder:
        for more in (
            [
                {"role": "tool", "tool_call_id": "call_1", "content": "3.7"},
                {"role": "tool", "tool_call_id": "call_2", "content": "2.8"},
            ],
            [{"role": "user", "content": "Thanks."}],
            [],
        ):
            answer = client.chat.completions.create(model=CHAT, messages=messages, tools=TOOLS)
            messages += [answer.choices[0].message, *more]
    lines = shown(run, store, recorder.session_id)
    assert between(lines, "✓ #1 step 1", "✓ #2 step 2") == [
        "system Be brief.",
        "user How many live in Berlin?",
        'tool population {"city":"Berlin"} → 3.7',
        'tool population {"city":"Rome"} → 2.8',
    ]
    assert between(lines, "✓ #2 step 2", "✓ #3 step 3") == ["answer 3.7 million."]
    assert lines[-3:][1:] == ["user Thanks.", "answer You are welcome."]
    assert not any("null" in line for line in lines)
    assert store.list_sessions()[0].task == "How many live in Berlin?"


def test_other_dialects(
    server: Loopback, store: LogStore, claude: anthropic.Anthropic, client: openai.OpenAI, run: Run
) -> None:
    """Messages of Anthropic and the Responses API show the same, and what a model thought."""
    wants = loopback_messages.wants(1, "population", city="Berlin")
    server.answers(
        loopback_messages.replies(loopback_messages.says("Let me look."), wants, stop="tool_use"),
        loopback_messages.replies(loopback_messages.says("3.7 million.")),
        loopback_responses.sent(
            loopback_responses.response(
                loopback_responses.thinks("Hm."), loopback_responses.wants("look", '{"a":1}')
            )
        ),
    )
    with store.session("my::script") as recorder:
        messages: Any = [{"role": "user", "content": "Berlin?"}]
        answer = claude.messages.create(model=CLAUDE, max_tokens=9, messages=messages)
        result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "3.7"}
        messages += [
            {"role": "assistant", "content": answer.content},
            {"role": "user", "content": [result]},
        ]
        claude.messages.create(model=CLAUDE, max_tokens=9, messages=messages)
        client.responses.create(model="gpt-5-mini", input="Look.", instructions="Be good.")
        recorder.deliver({"rows": 1})
    lines = shown(run, store, recorder.session_id)
    assert between(lines, "✓ #1 step 1", "✓ #2 step 2") == [
        "user Berlin?",
        "answer Let me look.",
        'tool population {"city": "Berlin"} → 3.7',
    ]
    assert between(lines, "✓ #2 step 2", "✓ #3 step 3") == ["answer 3.7 million."]
    assert between(lines, "✓ #3 step 3", "delivered") == [
        "system Be good.", "user Look.", "reasoning Hm.", 'tool look {"a":1}',
    ]  # fmt: skip
    assert lines[-1] == 'delivered {"rows":1}'


def test_ids_of_tools_may_come_again(
    server: Loopback, store: LogStore, client: openai.OpenAI, run: Run
) -> None:
    """Some servers count the ids of tool calls anew in each answer: a result is for the last call
    with its id that has none."""
    server.answers(
        loopback.tool_calls(("first", "{}")),
        loopback.tool_calls(("second", "{}")),
        loopback.tool_calls(("third", "{}")),
        loopback.text("Done."),
    )
    messages: Any = [{"role": "user", "content": "Go."}]
    with store.session("my::script") as recorder:
        for result in (None, "two", "three", None):
            answer = client.chat.completions.create(model=CHAT, messages=messages, tools=TOOLS)
            messages.append(answer.choices[0].message)
            if result:
                messages.append({"role": "tool", "tool_call_id": "call_1", "content": result})
    lines = shown(run, store, recorder.session_id)
    assert [line for line in lines if line.startswith("tool ")] == [
        "tool first {}", "tool second {} → two", "tool third {} → three",
    ]  # fmt: skip


def test_what_failed_and_what_is_no_text(
    server: Loopback, store: LogStore, client: openai.OpenAI, run: Run
) -> None:
    """An attempt that failed shows what it sent; images and vectors are counted."""
    server.answers(loopback.failure(400, "No good."), loopback.embeddings([0.1, 0.2], [0.3, 0.4]))
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    asked: Any = [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, image]}]
    with store.session("my::script") as recorder:
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model=CHAT, messages=asked)
        client.embeddings.create(model="text-embedding-3-small", input=["one", "two"])
    lines = shown(run, store, recorder.session_id)
    assert between(lines, "✗ #1 step 1", "✓ #2 step 2")[1:] == [
        "user What is it?",
        "user (1 image)",
    ]
    assert lines[-3:] == ["user one", "user two", "answer (2 embedding)"]
