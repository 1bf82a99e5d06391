"""What is asked for and has a price of its own: an answer that does not account for it has none.

    OpenAI     https://developers.openai.com/api/docs/pricing
    Google     https://ai.google.dev/gemini-api/docs/pricing
    Anthropic  https://platform.claude.com/docs/en/about-claude/pricing

The day is pinned, so that a rate that changes later changes nothing here.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any, TypeVar

import pytest

from lllm import LogStore, SQLiteBackend, capture
from lllm.events import codec
from lllm.events.model import LLMRequested, LLMResponded, Price
from lllm.instrumentation.request_bodies import CHAT as CHAT_FORM
from lllm.instrumentation.request_bodies import MESSAGES
from lllm.invokers.openai import OpenAIInvoker
from lllm.pricing.price import price
from lllm.pricing.request_media import Sent, sent_in
from lllm.pricing.usage import of_chat, of_messages
from tests.lllm.instrumentation.asking import ASKED, chat_client, claude_client
from tests.support import loopback_messages
from tests.support.loopback import Loopback, text
from tests.support.runs import Asking

pytestmark = pytest.mark.money

T = TypeVar("T")
AT = int(dt.datetime(2026, 11, 1, 12, tzinfo=dt.UTC).timestamp()) * 10**9
CHAT = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
CLAUDE = {"input_tokens": 100, "output_tokens": 10}
FLASH = 100 * 300 + 10 * 2500  # nano-dollars, all of it text


def gemini(raw: dict[str, Any], *media: str, model: str = "gemini-2.5-flash") -> Price:
    return price(
        of_chat(raw), provider="google", model=model, at=AT, usage_raw=raw, sent=Sent(media)
    )


def everything(store: LogStore, kind: type[T]) -> list[T]:
    """The payloads of a type, in order."""
    found = [codec.decode(event) for event in store.log.read()]
    return [payload for payload in found if isinstance(payload, kind)]


def unpriced(got: Price, *words: str) -> None:
    """It has no price, and its reason has the words."""
    assert (got.status, got.nanos) == ("unpriced", None)
    for word in words:
        assert word in (got.reason or "")


# -- media


@pytest.mark.parametrize(
    ("media", "details", "nanos"),
    [
        ([], None, FLASH),
        (["image"], None, FLASH),  # an image's tokens cost what text does
        (["audio"], None, None),
        (["audio", "video"], None, None),  # a film may have sound
        (["audio"], {"text_tokens": 100}, None),
        (["audio"], {"audio_tokens": 60, "text_tokens": 40}, 60 * 1000 + 40 * 300 + 10 * 2500),
        (["audio"], {"audio_tokens": 0, "text_tokens": 100}, FLASH),
        (
            ["audio"],
            [{"modality": "TEXT", "tokenCount": 40}, {"modality": "AUDIO", "tokenCount": 60}],
            60 * 1000 + 40 * 300 + 10 * 2500,
        ),
    ],
)
def test_audio_that_is_not_counted(media: list[str], details: object, nanos: int | None) -> None:
    """Audio costs more than three times what text does with Gemini: it is counted, or unpriced."""
    raw = CHAT if details is None else {**CHAT, "prompt_tokens_details": details}
    got = gemini(raw, *media)
    assert got.nanos == nanos
    if nanos is None:
        unpriced(got, "audio", "gemini-2.5-flash")


def test_details_by_googles_names() -> None:
    """A list of modalities is read, also under the names that Google's own API has."""
    listed = [{"modality": "TEXT", "tokenCount": 40}, {"modality": "AUDIO", "tokenCount": 60}]
    raw = {**CHAT, "promptTokensDetails": listed}
    assert gemini(raw, "audio").nanos == 60 * 1000 + 40 * 300 + 10 * 2500
    out = {**CHAT, "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 10}]}
    drawn = gemini(out, model="gemini-2.5-flash-image")
    assert drawn.nanos == 100 * 300 + 10 * 30_000
    unpriced(gemini({**CHAT, "promptTokensDetails": [{"modality": "SMELL", "tokenCount": 1}]}))


@pytest.mark.parametrize(
    ("model", "media", "priced"),
    [
        ("gemini-2.5-pro", "audio", True),  # whose audio costs what its text does
        ("gemini-3-flash-preview", "audio", False),
        ("gemini-3.1-flash-live-preview", "image", False),
        ("gemini-3.1-flash-live-preview", "video", False),
        ("gemini-embedding-2", "video", False),
    ],
)
def test_models_whose_media_cost_otherwise(model: str, media: str, priced: bool) -> None:
    """Only what has a rate of its own needs to be counted."""
    assert (gemini(CHAT, media, model=model).nanos is not None) == priced


def test_audio_that_is_billed_by_the_second() -> None:
    """Mistral counts the seconds beside the tokens; without them, nobody knows."""

    def voxtral(raw: dict[str, Any], *media: str) -> Price:
        return price(
            of_chat(raw), provider="mistral", model="voxtral-small-24b-2507", at=AT, usage_raw=raw,
            sent=Sent(media),
        )  # fmt: skip

    text_alone = voxtral(CHAT)
    assert text_alone.nanos is not None
    unpriced(voxtral(CHAT, "audio"), "audio")
    timed = voxtral({**CHAT, "prompt_audio_seconds": 90}, "audio")
    assert timed.nanos == text_alone.nanos + 90 * 240_000_000 // 3600


def test_what_is_provisioned_is_not_billed_by_the_token() -> None:
    """Vertex says how a request was served."""
    for traffic, known in (("ON_DEMAND", True), ("PROVISIONED_THROUGHPUT", False),
                           ("ON_DEMAND_FLEX", False)):  # fmt: skip
        raw = {**CHAT, "extra_properties": {"google": {"traffic_type": traffic}}}
        assert (gemini(raw).nanos is not None) == known


WAV = {"type": "input_audio", "input_audio": {"data": "d2F2", "format": "wav"}}


@pytest.mark.parametrize(
    ("piece", "media"),
    [
        ({"type": "text", "text": "data:audio/wav;base64,x"}, ()),
        (WAV, ("audio",)),
        ({"type": "image_url", "image_url": {"url": "https://x.test/cat.mp4"}}, ("image",)),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,x"}}, ("image",)),
        ({"type": "image_url", "image_url": {"url": "data:video/mp4;base64,x"}},
         ("audio", "video")),
        ({"type": "image_url", "image_url": {"url": "data:audio/ogg;base64,x"}}, ("audio",)),
        ({"type": "video_url", "video_url": {"url": "https://x.test/1"}}, ("audio", "video")),
        ({"type": "file", "file": {"file_data": "data:application/pdf;base64,x"}}, ("image",)),
        ({"type": "file", "file": {"file_data": "data:audio/mpeg;base64,x"}}, ("audio",)),
        ({"type": "file", "file": {"filename": "film.webm", "file_data": "x"}},
         ("audio", "video")),
        ({"type": "file", "file": {"filename": "notes.txt", "file_data": "x"}}, ()),
        ({"type": "file", "file": {"file_id": "file-1"}}, ("audio", "image", "video")),
        ({"type": "file", "file": {"file_id": "gs://a/b.mp3", "format": "audio/mp3"}}, ("audio",)),
        ({"type": "media", "mime_type": "video/mp4", "file_uri": "gs://a/b"}, ("audio", "video")),
        ({"type": "custom", "data": 5}, ()),
    ],
    ids=str,
)  # fmt: skip
def test_media_in_a_request(piece: dict[str, Any], media: tuple[str, ...]) -> None:
    """What may cost more than text is found by its kind, its type or its name, wherever in the
    conversation."""
    said = {"role": "user", "content": "?"}
    body = {"model": "m", "messages": [{"role": "user", "content": [piece]}, said]}
    assert sent_in(CHAT_FORM.read(body).contents, {}).media == media
    assert sent_in([CHAT_FORM.read(body).contents[1]], {}).media == ()


def test_media_in_messages_of_claude() -> None:
    """A document's pages are read as images; media may stand in what a tool gave."""
    document = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf"}}
    result = {"type": "tool_result", "tool_use_id": "1", "content": [document]}
    body = {"model": "m", "messages": [{"role": "user", "content": [result]}]}
    assert sent_in(MESSAGES.read(body).contents, {}).media == ("image",)


# -- tiers


@pytest.mark.parametrize(
    ("params", "tier"),
    [
        ({}, None),
        ({"service_tier": "auto"}, None),
        ({"service_tier": "default"}, None),
        ({"service_tier": "standard_only"}, None),
        ({"service_tier": None}, None),
        ({"service_tier": "flex"}, "flex"),
        ({"service_tier": " Priority"}, "priority"),
        ({"extra_body": {"service_tier": "flex"}}, "flex"),
        ({"speed": "fast", "service_tier": "auto"}, "fast"),
        ({"speed": "standard"}, None),
    ],
)
def test_tiers_in_a_request(params: dict[str, object], tier: str | None) -> None:
    """A tier other than the plain one is asked for by a parameter."""
    assert sent_in((), params).tier == tier


@pytest.mark.parametrize(
    ("provider", "model", "asked", "answered", "nanos"),
    [
        ("openai", "gpt-5", "flex", None, None),
        ("openai", "gpt-5", "priority", None, None),
        ("openai", "gpt-5", "flex", "flex", 112_500),
        ("openai", "gpt-5", "flex", "default", 225_000),  # it was not given
        ("openai", "gpt-5", "priority", "priority", 450_000),
        ("openai", "gpt-5", "priority", "flex", 112_500),
        ("openai", "gpt-5", "scale", None, None),
        ("openai", "gpt-5", "batch", None, None),
        ("google", "gemini-2.5-flash", "flex", None, None),
        ("groq", "llama-3.3-70b-versatile", "flex", None, None),
        ("groq", "llama-3.3-70b-versatile", "flex", "on_demand", 66_900),
        ("openai", "gpt-5", None, None, 225_000),
    ],
)
def test_a_tier_that_an_answer_does_not_confirm(
    provider: str, model: str, asked: str | None, answered: str | None, nanos: int | None
) -> None:
    """What is asked for need not be given: the answer's word counts, and nobody knows without."""
    got = price(
        of_chat(CHAT), provider=provider, model=model, at=AT, usage_raw=CHAT,
        service_tier=answered, sent=Sent(tier=asked),
    )  # fmt: skip
    assert got.nanos == nanos
    if nanos is None:
        unpriced(got, repr(asked), "does not say")


@pytest.mark.parametrize(
    ("speed", "answered", "nanos"),
    [(None, "standard", None), ("standard", "standard", 750_000), ("fast", "fast", 1_500_000)],
)
def test_fast_mode_of_claude(speed: str | None, answered: str, nanos: int | None) -> None:
    """Its usage says the speed beside the tier."""
    raw = CLAUDE | ({} if speed is None else {"speed": speed})
    got = price(
        of_messages(raw), provider="anthropic", model="claude-opus-4-8", at=AT, usage_raw=raw,
        service_tier=answered, sent=Sent(tier="fast"),
    )  # fmt: skip
    assert got.nanos == nanos


def test_prices_of_ones_own_hold_whatever_was_asked_for(server: Loopback, tmp_path: Path) -> None:
    """Who says what a model costs is believed."""
    server.answers(text("Well.", model="gpt-5", usage=CHAT, service_tier=None))
    mine = {"gpt-5": {"input": 1, "output": 1}}
    with LogStore(SQLiteBackend(tmp_path / "runs.db"), prices=mine) as store:
        client = capture(chat_client(server), log_store=store, provider="openai")
        client.chat.completions.create(model="gpt-5", messages=ASKED, service_tier="flex")
        assert everything(store, LLMResponded)[0].price.nanos == 110_000


# -- as it is recorded


def test_a_captured_call_at_another_tier(server: Loopback, tmp_path: Path) -> None:
    """The request says what was asked for, so that its price is made anew by the same rule."""
    server.answers(
        text("Well.", model="gpt-5", usage=CHAT, service_tier=None),
        text("Well.", model="gpt-5", usage=CHAT, service_tier="flex"),
    )
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store:
        client = capture(chat_client(server), log_store=store, provider="openai")
        for _ in range(2):
            client.chat.completions.create(model="gpt-5", messages=ASKED, service_tier="flex")
        silent, told = everything(store, LLMResponded)
        unpriced(silent.price, "'flex'")
        assert told.price.nanos == 112_500
        assert [one.service_tier for one in everything(store, LLMRequested)] == ["flex"] * 2
        anew = store.export_cost_summary(prices="current")
        assert (anew["unpriced_calls"], round(anew["total_cost_usd"] * 10**9)) == (1, 112_500)


def test_a_captured_call_with_audio(server: Loopback, tmp_path: Path) -> None:
    """Audio that was sent earlier in a conversation is sent again with each request."""
    counted = CHAT | {"prompt_tokens_details": {"audio_tokens": 60}}
    server.answers(*(text("Well.", model="gemini-2.5-flash", usage=one) for one in (CHAT, counted)))
    messages: Any = [{"role": "user", "content": [WAV]}, {"role": "user", "content": "And this?"}]
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store:
        client = capture(chat_client(server), log_store=store, provider="google")
        for _ in range(2):
            client.chat.completions.create(model="gemini-2.5-flash", messages=messages)
        silent, told = everything(store, LLMResponded)
        unpriced(silent.price, "audio")
        assert told.price.nanos == 60 * 1000 + 40 * 300 + 10 * 2500
        assert {one.media for one in everything(store, LLMRequested)} == {("audio",)}
        assert store.export_cost_summary(prices="current")["unpriced_calls"] == 1


def test_fast_mode_that_a_captured_answer_does_not_confirm(
    server: Loopback, tmp_path: Path
) -> None:
    """It may have been billed at twice the price."""
    server.answers(loopback_messages.replies(loopback_messages.says("Well."), usage=CLAUDE))
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store:
        client = capture(claude_client(server), log_store=store, provider="anthropic")
        client.messages.create(
            model="claude-opus-4-8", max_tokens=10, messages=ASKED, extra_body={"speed": "fast"}
        )
        unpriced(everything(store, LLMResponded)[0].price, "'fast'")


def test_an_agent_that_asks_for_a_tier(server: Loopback, tmp_path: Path) -> None:
    """An agent's `model_args` are asked for like any."""
    server.answers(text("Well.", model="gpt-5", usage=CHAT, service_tier=None))
    invoker = OpenAIInvoker(base_url=server.url, api_key="sk-test-1", provider="openai")
    agent = {
        "name": "a", "model_name": "gpt-5", "invoker": invoker,
        "model_args": {"service_tier": "priority"},
    }  # fmt: skip
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store:
        Asking({"agent_configs": [agent]}, log_store=store)("?")
        assert everything(store, LLMRequested)[0].service_tier == "priority"
        unpriced(everything(store, LLMResponded)[0].price, "'priority'")
