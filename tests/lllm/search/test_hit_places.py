"""The step that shows a text is found near the text, in a session of any length."""

from __future__ import annotations

import time

import pytest

from lllm.events import codec
from lllm.events.backends.memory import MemoryBackend
from lllm.events.digest import seal
from lllm.events.ids import new_id, new_salt
from lllm.events.model import (
    Content,
    Event,
    LLMRequested,
    MessageAdded,
    SessionStarted,
    ToolCalled,
    ToolReturned,
)
from lllm.search import hit_places


@pytest.mark.parametrize("between", [0, 30, 300, 3_000])
def test_a_step_far_from_its_text_is_found_up_to_a_limit(
    between: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More events around a hit are read if the nearest don't tell; in the end it has no name."""
    monkeypatch.setattr(hit_places, "_AROUND", (10, 100, 1_000))
    stream, salt = new_id(), new_salt()
    others = [
        MessageAdded(message=number + 9, dialog=2, content=Content.of("user", "b"), why="user")
        for number in range(between)
    ]
    payloads: list[Event] = [
        SessionStarted(tactic_path="a::b", name="b", salt=salt),
        ToolCalled(tool=1, request=1, call_id="1", name="find"),
        MessageAdded(message=1, dialog=1, content=Content.of("user", "a"), why="user"),
        *others,
        ToolReturned(tool=1, message=7, content=Content.of("tool", "c"), elapsed=1),
        LLMRequested(
            request=2,
            step=1,
            attempt=1,
            provider="p",
            api="a",
            model="m",
            dialog=1,
            upto=1,
            digest="",
        ),
    ]
    log = MemoryBackend()
    log.append(
        [
            seal(salt, stream, seq, time.time_ns(), one.type, one.version, codec.encode(one))
            for seq, one in enumerate(payloads, 1)
        ]
    )
    asked, returned = 3, 4 + between
    found = hit_places.hit_places(log, {asked: stream, returned: stream, 1: stream})
    assert found == (
        {
            asked: hit_places.HitPlace(2, "message of the user"),
            returned: hit_places.HitPlace(1, "result of find"),
        }
        if between < 1_000
        else {}
    )
