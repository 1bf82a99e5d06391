"""Numbers that a provider sends and no event can hold are not written, and the log says so."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from lllm import LogStore, SQLiteBackend
from lllm.events import codec
from lllm.events.model import Content, LLMResponded, Usage
from lllm.events.values.json_values import to_plain
from lllm.invokers import Answer
from lllm.invokers.http.retry_after import retry_after
from lllm.pricing.price import price
from lllm.pricing.usage import of_chat, within_limits
from tests.support.runs import MODEL, Asking, called, config, payloads

MOST = 10**15
AT = 1_767_225_600_000_000_000  # 2026-01-01


def answered(given: Usage | None, raw: object, folder: Path) -> LLMResponded:
    """What is read back of an answer with a usage; what the session says of it is as the rows."""
    reply = Answer(Content.of("assistant", "Hi."), "stop", MODEL, usage_raw=raw, usage=given)
    with LogStore(SQLiteBackend(folder / "runs.db")) as store:
        session = called(Asking(config([reply]), log_store=store))
        assert session.delivery == "Hi."
        (event,) = [
            event for event in payloads(store, session.session_id) if event.type == "llm.responded"
        ]
        assert isinstance(event, LLMResponded)
        assert store.list_sessions()[0].state == "success"
        assert store.rebuild(check=True).difference is None
    return event


@pytest.mark.parametrize("field", Usage.__struct_fields__)
@pytest.mark.parametrize("count", [MOST + 1, -MOST - 1, 2**64, 10**400, 1.5])
def test_no_such_usage_is_believed(field: str, count: int) -> None:
    """A count beyond what an event can hold, or that is no whole number, is no usage."""
    wrong = Usage(**{field: count})
    assert within_limits(wrong) is None
    assert price(wrong, provider="openai", model=MODEL, at=AT).status == "unpriced"


@pytest.mark.parametrize("count", [MOST + 1, 10**30])
def test_a_usage_beyond_belief(tmp_path: Path, count: int) -> None:
    """A usage that no event can hold is left out; the provider's own words are kept, and there is
    no price, for a reason that is told."""
    raw = {"prompt_tokens": count, "completion_tokens": 1}
    event = answered(of_chat(raw), raw, tmp_path)
    assert event.usage is None
    assert (event.price.status, event.price.nanos) == ("unpriced", None)
    assert "beyond all that a call can use" in str(event.price.reason)
    assert event.usage_raw == to_plain(raw)


def test_the_greatest_usage(tmp_path: Path) -> None:
    """A usage as great as an event can hold is kept; its price is not, where it is greater."""
    event = answered(Usage(input=MOST), None, tmp_path)
    assert event.usage == Usage(input=MOST)
    assert event.price.status == "unpriced"
    assert "more than a call can cost" in str(event.price.reason)


def test_what_is_priced_can_be_read() -> None:
    """Prices up to the bound are written and read as they are."""
    cheap = price(Usage(input=MOST // 1000), provider="openai", model=MODEL, at=AT)
    assert cheap.status == "priced"
    assert msgspec.json.decode(codec.encode(cheap), type=type(cheap)) == cheap


@pytest.mark.parametrize(
    "headers",
    [
        {"retry-after": "1e300"},
        {"retry-after": "9" * 40},
        {"retry-after-ms": "1e18"},
        {"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"},
    ],
)
def test_a_wait_of_centuries_is_none(headers: dict[str, str]) -> None:
    """A provider that asks to wait for longer than an event can hold has not said how long."""
    assert retry_after(headers) is None
