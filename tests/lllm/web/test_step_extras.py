"""What a step has beside its texts: code that asks again, images, and what a fork changed."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lllm import LogStore, SQLiteBackend, capture
from lllm.agents.fork_edits import Edit
from lllm.events.model import Content, Part
from lllm.replay.missing import ReplayPlace
from lllm.web.images import image_of
from tests.lllm.instrumentation.asking import KEY, chat_client, claude_client, close_clients
from tests.support import loopback, loopback_messages
from tests.support.loopback import Loopback
from tests.support.runs import Asking, Doing, config
from tests.support.web_page import HOSTILE, Served, find_order, served

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
URL = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
EVIL = f'\'; touch ran; echo "$(id)" `id` \\ {HOSTILE[0]}\nEOF\n\u202e'


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The page of an empty store."""
    with (
        LogStore(SQLiteBackend(tmp_path_factory.mktemp("extras") / "runs.db")) as store,
        served(store) as running,
    ):
        yield running
    close_clients()


def last(page: Served) -> str:
    """The id of the newest session."""
    return page.store.list_sessions(limit=1)[0].session_id


def code_of(page: Served, form: str, number: int = 1) -> str:
    """The request of the newest session as code."""
    found = last(page)
    status, headers, text = page.get(f"/sessions/{found}/steps/{found}/{number}/request?as={form}")
    assert (status, headers["content-type"].partition(";")[0]) == (200, "text/plain"), text
    assert KEY not in text
    assert "\u202e" not in text
    return text


def ask(server: Loopback, page: Served) -> dict[str, Any]:
    """Ask by Chat Completions, with a tool, an image and hostile text; the body that was sent."""
    server.answers(loopback.tool_calls(("find", "{}")), loopback.text("b"))
    client = capture(chat_client(server), log_store=page.store, provider="openai")
    messages: Any = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [
            {"type": "text", "text": EVIL}, {"type": "image_url", "image_url": {"url": URL}},
        ]},
    ]  # fmt: skip
    tool: Any = {"name": "find", "description": "d", "parameters": {"type": "object"}}
    options: Any = {"tools": [{"type": "function", "function": tool}], "temperature": 0.5}
    with page.store.session("shop::asking", task="t"):
        first = client.chat.completions.create(model="gpt-4o-mini", messages=messages, **options)
        calls = first.choices[0].message
        messages += [calls.model_dump(exclude_none=True), {
            "role": "tool", "tool_call_id": calls.tool_calls[0].id, "content": "found",
        }]  # fmt: skip
        client.chat.completions.create(model="gpt-4o-mini", messages=messages, **options)
    return dict(server.requests[-1].body)


def same(body: Any, sent: Any) -> None:
    """Two bodies ask for the same, whichever way a text stands in it."""
    for name in ("model", "tools", "temperature"):
        assert body.get(name) == sent.get(name), name
    assert [one["role"] for one in body["messages"]] == [one["role"] for one in sent["messages"]]
    assert EVIL in [
        part["text"] for one in body["messages"] if isinstance(one["content"], list)
        for part in one["content"] if part["type"] == "text"
    ]  # fmt: skip
    assert URL in str(body["messages"])


@pytest.mark.slow
def test_python_asks_for_the_same_again(
    page: Served, server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = ask(server, page)
    monkeypatch.setenv("OPENAI_API_KEY", "another")
    server.answers(loopback.text("again"))
    exec(code_of(page, "python", 2), {})
    asked = server.requests[-1]
    assert asked.headers["authorization"] == "Bearer another"
    assert asked.path.endswith("/chat/completions")
    same(asked.body, sent)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")
def test_curl_asks_for_the_same_again(page: Served, server: Loopback, tmp_path: Path) -> None:
    """A shell runs nothing that a message says."""
    sent = ask(server, page)
    server.answers(loopback.text("again"))
    done = subprocess.run(
        ["/bin/sh", "-c", code_of(page, "curl", 2)], check=False, timeout=30, capture_output=True,
        cwd=tmp_path, env={"OPENAI_API_KEY": "another", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert b"again" in done.stdout, done.stderr
    assert list(tmp_path.iterdir()) == []
    assert server.requests[-1].headers["authorization"] == "Bearer another"
    same(server.requests[-1].body, sent)


@pytest.mark.slow
def test_messages_of_anthropic(
    page: Served, server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers(*[loopback_messages.sent(loopback_messages.message())] * 2)
    client = capture(claude_client(server), log_store=page.store, provider="anthropic")
    asked: Any = [{"role": "user", "content": "?"}]
    with page.store.session("shop::claude"):
        client.messages.create(model="claude-haiku-4-5", max_tokens=9, system="s", messages=asked)
    first = server.requests[-1].body
    monkeypatch.setenv("ANTHROPIC_API_KEY", "another")
    exec(code_of(page, "python"), {})
    again = server.requests[-1].body
    for name in ("model", "max_tokens"):
        assert again[name] == first[name]
    assert again["system"] == [{"type": "text", "text": "s"}]
    assert '-H "x-api-key: $ANTHROPIC_API_KEY"' in code_of(page, "curl")


def test_json_of_an_agent_and_what_can_not_be(page: Served) -> None:
    Asking(config(["yes"], tools=[find_order]), log_store=page.store)("why?")
    text = code_of(page, "json")
    assert '"name": "find_order"' in text
    assert '"content": "why?"' in text
    found = last(page)
    here = f"/sessions/{found}/steps/{found}"
    assert page.get(f"{here}/1/request?as=odd")[0] == 400
    assert page.get(f"{here}/9/request?as=json")[0] != 200
    assert f'href="{here}/1/request?as=curl" data-copy-from' in page.get(f"/sessions/{found}")[2]


SVG = b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        ({"type": "image_url", "image_url": {"url": URL}}, True),
        ({"type": "input_image", "image_url": URL}, True),
        ({"source": {"type": "base64", "media_type": "x", "data": URL.partition(",")[2]}}, True),
        ({"inline_data": {"mime_type": "image/png", "data": URL.partition(",")[2]}}, True),
        ({"image_url": {"url": "http://192.0.2.1/x.png"}}, False),
        ({"url": f"data:image/svg+xml;base64,{base64.b64encode(SVG).decode()}"}, False),
        ({"url": f"data:image/png;base64,{base64.b64encode(SVG).decode()}"}, False),
        ({"url": "data:image/png;base64,%%%"}, False),
        ({"url": "data:image/svg+xml,<svg onload=alert(1)>"}, False),
        ({"data": base64.b64encode(PNG + bytes(3 << 20)).decode()}, False),
        ({"a": {"b": {"c": {"d": {"e": URL}}}}}, False),
        (None, False),
    ],
)
def test_only_images_of_four_formats_are_shown(data: object, shown: bool) -> None:
    assert image_of(Part("image", data=data)) == (URL if shown else None)


def test_an_image_of_a_message_is_seen(page: Served) -> None:
    def work(one: Doing) -> object:
        agent = one.agents["a"]
        agent.open()
        image = Part("image", data={"url": URL}, mime=HOSTILE[1])
        svg = Part(HOSTILE[2], data={"url": "data:image/svg+xml;base64,PHN2Zz4="})
        agent.add(agent.current_dialog, Content("user", (Part("text", "see"), image, svg)), "user")
        return agent.respond().content

    Doing(work, config(["a dot"]), log_store=page.store)("look")
    text = page.get(f"/sessions/{last(page)}")[2]
    assert re.findall(r'<img[^>]*src="([^"]*)"', text) == [URL]
    assert "<svg onload" not in text


def test_what_a_fork_changed_is_a_diff(page: Served) -> None:
    Asking(config(["one"]), log_store=page.store)("because")
    recorded = last(page)
    Asking(config(["two"]), log_store=page.store).fork(
        recorded, at=ReplayPlace(respond=1), edit=Edit(message=f"why? {HOSTILE[0]}")
    )
    found = last(page)
    assert found != recorded
    text = page.get(f"/sessions/{found}")[2]
    assert "✎ this fork changed the message here" in text
    (diff,) = re.findall(r'<pre class="diff">(.*?)</pre>', text, re.DOTALL)
    assert '<span class="removed">-' in diff
    assert "because" in diff
    assert "why? &lt;script&gt;" in diff
