"""Secrets are kept out of the log: which are known, where they are found, and what is left."""

from __future__ import annotations

import base64
import json
import pickle
import random
import string
import uuid
from collections import Counter
from pathlib import Path
from typing import cast

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lllm import ConfigError, LogStore, tool
from lllm.events import codec, model
from lllm.events.envelope import Recorded
from lllm.events.ids import new_id, new_salt
from lllm.events.redaction import redact as redaction
from lllm.events.redaction.cut_text import cut_secrets, without_secrets
from lllm.events.redaction.redact import Redact, checked, payload, redacted_in
from lllm.events.redaction.secret_prefilter import may_hold_secret
from lllm.events.redaction.user_patterns import BEARER, CARD, EMAIL, Pattern
from lllm.events.values.json_values import from_plain, to_plain
from lllm.invokers import Request
from lllm.invokers.scripted import Reply, tool_call
from tests.conftest import OpenBackend
from tests.support.runs import Asking, called, config, failed

ALPHANUMERIC = string.ascii_letters + string.digits
URL_SAFE = ALPHANUMERIC + "-_"
HEX = "0123456789abcdef"
_random = random.Random(20261123)


def made(alphabet: str, length: int) -> str:
    """The random part of a key that nobody owns."""
    return "".join(_random.choices(alphabet, k=length))


# Put together here, so that no scanner takes this file for a leak.
KEYS: dict[str, tuple[str, str]] = {
    "anthropic api": ("anthropic-key", "sk-" + "ant-api03-" + made(URL_SAFE, 86) + "-XyZ12_AA"),
    "anthropic admin": ("anthropic-key", "sk-" + "ant-admin01-" + made(URL_SAFE, 93) + "AA"),
    "openrouter": ("openrouter-key", "sk-" + "or-v1-" + made(HEX, 64)),
    "openai": ("openai-key", "sk-" + made(ALPHANUMERIC, 48)),
    "openai project": ("openai-key", "sk-" + "proj-" + made(URL_SAFE, 155) + "A"),
    "openai short project": ("openai-key", "sk-" + "proj-" + made(ALPHANUMERIC, 48)),
    "openai service account": ("openai-key", "sk-" + "svcacct-" + made(URL_SAFE, 123) + "A"),
    "openai admin": ("openai-key", "sk-" + "admin-" + made(URL_SAFE, 123) + "A"),
    "like openai": ("openai-key", "sk-" + made(HEX, 32)),
    "google": ("google-key", "AIza" + "Sy" + made(URL_SAFE, 33)),
    "aws": ("aws-key-id", "AKIA" + made(string.ascii_uppercase + "234567", 16)),
    "aws temporary": ("aws-key-id", "ASIA" + made(string.ascii_uppercase + "234567", 16)),
    "github": ("github-token", "ghp_" + made(ALPHANUMERIC, 36)),
    "github oauth": ("github-token", "gho_" + made(ALPHANUMERIC, 36)),
    "github app": ("github-token", "ghs_" + made(ALPHANUMERIC, 255)),
    "github fine": (
        "github-token", "github_" + "pat_" + made(ALPHANUMERIC, 22) + "_" + made(ALPHANUMERIC, 59),
    ),
    "gitlab": ("gitlab-token", "glpat-" + made(URL_SAFE, 19) + "x"),
    "gitlab routable": ("gitlab-token", "glpat-" + made(URL_SAFE, 27) + ".01.0a1b2c3d4"),
    "slack bot": (
        "slack-token",
        "xoxb-" + made(string.digits, 12) + "-1234567890123-" + made(ALPHANUMERIC, 24),
    ),
    "slack legacy bot": ("slack-token", "xoxb-" + "123456789012-" + made(ALPHANUMERIC, 18)),
    "slack user": ("slack-token", "xoxp-" + "12345678901-" * 3 + made(HEX, 32)),
    "slack app": ("slack-token", "xapp-" + "1-A012345-1234567890-" + made(HEX, 64)),
    "hugging face": ("huggingface-token", "hf_" + made(string.ascii_letters, 34)),
    "groq": ("groq-key", "gsk_" + made(ALPHANUMERIC, 52)),
    "replicate": ("replicate-token", "r8_" + made(ALPHANUMERIC, 37)),
    "stripe": ("stripe-key", "sk_" + "live_" + made(ALPHANUMERIC, 24)),
    "stripe sandbox": ("stripe-key", "sk_" + "test_" + made(ALPHANUMERIC, 99)),
    "stripe restricted": ("stripe-key", "rk_" + "live_" + made(ALPHANUMERIC, 24)),
    "xai": ("xai-key", "xai-" + made(ALPHANUMERIC, 80)),
    "perplexity": ("perplexity-key", "pplx-" + made(ALPHANUMERIC, 48)),
}  # fmt: skip
AWS_SECRET = made(ALPHANUMERIC + "/+", 39) + "x"
KEY = KEYS["openai project"][1]


def event_of(value: object) -> model.ToolCalled:
    """An event that holds a value, as lllm would write it."""
    return model.ToolCalled(tool=1, request=2, call_id="c", name="t", arguments=to_plain(value))


def recorded(event: model.Event, redact: Redact | None = None) -> Recorded:
    """An event as it stands in a log."""
    return Recorded(1, "s", 1, 1, event.type, event.version, payload(event, redact), b"")


def written(value: object, redact: Redact | None = None) -> object:
    """What is read again of a value that was written."""
    event = codec.decode(recorded(event_of(value), redact))
    assert isinstance(event, model.ToolCalled)
    assert (event.tool, event.request, event.call_id, event.name) == (1, 2, "c", "t")
    return from_plain(event.arguments)


def counts(value: object, redact: Redact | None = None) -> dict[str, int]:
    """What was cut from a value."""
    return redacted_in(recorded(event_of(value), redact))


# -- the known keys


@pytest.mark.parametrize(("name", "key"), KEYS.values(), ids=list(KEYS))
@pytest.mark.parametrize(
    "around",
    [
        "{}", "key: {}.", "'{}'", "Authorization: Bearer {}\r\n", "https://x.org/?key={}&n=1",
        "\n{}\n", "é{}é", "字{}", "\x1b[31m{}\x1b[0m", "%3D{}%26", '{{"a": "one\\n{}\\n"}}',
        "b'\\x00{}\\x00'", "\\u00e9{}", "C:\\dir\\{}\\", "API_KEY={}", "\ud800{}", "{}, {{}}",
    ],
)  # fmt: skip
def test_known_keys_are_cut(name: str, key: str, around: str) -> None:
    """An API key of a known provider is never written, whatever stands around it and although
    nobody asked; its mark and its count are."""
    text = around.format(key)
    assert may_hold_secret(codec.encode(text))
    data = payload(event_of(text), None)
    assert key.encode() not in data
    assert written(text) == around.format(f"[redacted: {name}]")
    assert counts(text) == {name: 1}


def test_texts_that_are_no_events() -> None:
    """without_secrets does the same for a line of a log."""
    assert (
        without_secrets(f"\ud800 no access with {KEY}")
        == "\ud800 no access with [redacted: openai-key]"
    )
    assert without_secrets("task-" + "a" * 50) == "task-" + "a" * 50


@pytest.mark.parametrize(("name", "key"), KEYS.values(), ids=list(KEYS))
def test_near_misses_of_keys_stay(name: str, key: str) -> None:
    """What has the prefix but not the length is no key."""
    short = {"openai-key": 30, "slack-token": 12, "stripe-key": 20, "github-token": 39}
    length = short.get(name, len(key) // 2 - 3)
    for text in (key[:length], key[3:length]):
        assert written(text) == text, name
        assert payload(event_of(text), None) == codec.encode(event_of(text))


@pytest.mark.parametrize(
    "text",
    [
        "task-management-framework-for-large-teams-and-small-ones",
        "risk-" + "a" * 60,
        "sk-learn is sklearn; sk-proj-name; sk-ant-api03-...; sk-or-v1-...",
        "sk-" + "x" * 31,
        "shelf_" + "a" * 40,
        "AKIA and ASIA, AIza",
        "AKIA" + "a" * 16,
        "ASIA" + "B" * 17,
        "AIza" + "x" * 36,
        "pplx-70b-online and xai-grok",
        "xoxo-my-love-to-you-all-there",
        "xoxb-my-bot-token-goes-here-please",
        "hf_hub_download, hf_transfer, gsk_" + "a" * 47,
        "secret_access_key is 40 characters",
        f"access key {AWS_SECRET}",
        "ghp_" + "a" * 35,
        "glpat-xxxx",
        "r8_" + "a" * 38,
        "sk_live_..., sk_test_key, rk_live_x",
        "-" * 200 + "A" * 200 + "_" * 200,
        "eyJ" * 40,
    ],
)
def test_what_only_resembles_a_key_stays(text: str) -> None:
    """Prefixes in prose, in names and in longer words are no keys."""
    assert written({text: [text]}) == {text: [text]}
    assert counts(text) == {}


def test_ids_digests_and_images_are_no_keys() -> None:
    """Session ids, UUIDs, hex digests and base64 in both alphabets fit no pattern at all."""
    every = [EMAIL, CARD, BEARER]
    some = random.Random(7)
    for _ in range(150):
        data = some.randbytes(600)
        texts = [
            new_id(), str(uuid.UUID(bytes=data[:16])), data[:32].hex(), data[:20].hex().upper(),
            base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode(),
            f"chatcmpl-{made(ALPHANUMERIC, 29)}", f"call_{made(ALPHANUMERIC, 24)}",
            f"definition-{data[:32].hex()}", f"sha256:{data[:32].hex()}",
        ]  # fmt: skip
        for text in texts:
            assert counts(f"before {text} behind", every) == {}, text


@pytest.mark.parametrize(
    "around",
    [
        "aws_secret_access_key = {}", "export AWS_SECRET_ACCESS_KEY={}\n",
        '"SecretAccessKey": "{}"',
        "{{'secretAccessKey': '{}'}}", 'AWS_SECRET_ACCESS_KEY="{}"',
        '{{\\"aws_secret_access_key\\":\\"{}\\"}}',
    ],
)  # fmt: skip
def test_aws_secrets_are_known_by_their_name(around: str) -> None:
    """An AWS secret has no prefix; it is cut where it is assigned, and its name stays."""
    assert written(around.format(AWS_SECRET)) == around.format("[redacted: aws-secret-key]")


@pytest.mark.parametrize(
    "value",
    [
        {"aws_secret_access_key": AWS_SECRET, "more": 1},
        [("AWS_SECRET_ACCESS_KEY", AWS_SECRET)],
        {"a": [{"SecretAccessKey": AWS_SECRET}]},
        {1: "int keys", "secretAccessKey": AWS_SECRET},
    ],
)
def test_a_name_and_its_value_are_read_together(value: object) -> None:
    """A secret that only its name tells is also found where the name is the key of a dict, or
    stands before it in a pair."""
    assert AWS_SECRET not in str(written(value))
    assert counts(value) == {"aws-secret-key": 1}
    assert "[redacted: aws-secret-key]" in str(written(value))


# -- anywhere in a value

_SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
    | st.decimals(allow_nan=False) | st.dates() | st.uuids()
)  # fmt: skip
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=4)
        | st.tuples(inner, inner)
    ),
    max_leaves=12,
)


def planted(value: object, secret: object, where: list[int]) -> object:
    """A value with a secret in it, at a place that `where` tells."""
    at = where.pop() if where else 0
    if isinstance(value, list | tuple) and value:
        items = list(value)
        items[at % len(items)] = planted(items[at % len(items)], secret, where)
        return items if isinstance(value, list) else tuple(items)
    if isinstance(value, dict) and value and at % 3:
        key = list(value)[at % len(value)]
        return value | {key: planted(value[key], secret, where)}
    if isinstance(value, dict):
        return value | {secret: at}
    if isinstance(value, bytes):
        return value + b"\n" + str(secret).encode() + b"\n" + value
    if isinstance(value, str):
        return f"{value}\n{secret}\n{value}"
    return secret


@settings(max_examples=150, deadline=None)
@given(
    value=_VALUES,
    where=st.lists(st.integers(0, 99), min_size=6, max_size=6),
    kind=st.sampled_from(sorted(KEYS)),
)
@example(value={"\ud800": 1}, where=[0] * 6, kind="openai")
@example(value=b"\xff\xfe", where=[0] * 6, kind="aws")
@example(value="\ud83d\ude00", where=[0] * 6, kind="slack bot")
def test_a_key_is_found_anywhere(value: object, where: list[int], kind: str) -> None:
    """A key that stands anywhere in a value, in keys, bytes and odd strings too, is not written;
    everything else comes back as it was."""
    name, key = KEYS[kind]
    event = event_of(planted(value, key, list(where)))
    data = payload(event, None)
    assert key.encode() not in data
    assert data.count(b"\n") == 0
    kept = codec.decode(recorded(event))
    expected = event_of(planted(value, f"[redacted: {name}]", list(where)))
    assert codec.encode(kept) == codec.encode(expected)
    assert redacted_in(recorded(event)) == {name: 1}


@settings(max_examples=200, deadline=None)
@given(
    parts=st.lists(
        st.sampled_from([key for _, key in KEYS.values()])
        | st.text('askprxhb-_AIz0m[\\n\n"\x1bé%3D ', max_size=4),
        max_size=6,
    )
)
def test_no_key_passes_the_fast_look(parts: list[str]) -> None:
    """Whatever the patterns find in a text, the fast look at its JSON has seen."""
    text = "".join(parts)
    if cut_secrets(text, Counter(), look=False) != text:
        assert may_hold_secret(codec.encode(text))
        assert may_hold_secret(json.dumps(text).encode())


@settings(max_examples=100, deadline=None)
@given(_VALUES)
def test_what_holds_no_secret_is_written_as_it_is(value: object) -> None:
    """Without a secret in it, not one byte of a payload is another."""
    event = event_of(value)
    assert payload(event, None) == codec.encode(event)
    assert payload(event, [Pattern("x", "never-in-there-[0-9]{99}")]) == codec.encode(event)


def test_every_text_of_every_event_is_searched() -> None:
    """Names, tags, messages, tool calls, errors, tracebacks, prompts, reasons and ancestors."""
    content = model.Content(
        "tool", (model.Part("text", KEY, data={"url": KEY}),), (model.ToolCall(KEY, KEY, KEY),), KEY
    )
    error = model.Error(KEY, KEY, KEY, KEY)
    salt = new_salt()
    events: list[model.Event] = [
        model.SessionStarted(
            tactic_path=KEY, name=KEY, partition=KEY, task=KEY, options=[KEY], tags={KEY: KEY},
            metadata=KEY, ancestors=(model.Ancestor("id", KEY),), salt=salt,
        ),
        model.SessionSucceeded(delivery=KEY, elapsed=1),
        model.SessionFailed(error=error, elapsed=1),
        model.SessionTagged(about="id", set={KEY: KEY}, removed=(KEY,), by=KEY, salt=salt),
        model.SessionAnnotated(about="id", name=KEY, value=[KEY], comment=KEY, by=KEY, salt=salt),
        model.SessionErased(
            about="id", by=KEY, reason=KEY, events=1, tactic_path=KEY, state="success", started=1,
            salt=salt,
        ),
        model.AgentDefined(
            name=KEY, system=KEY, prompts=(KEY,), provider=KEY, model=KEY, params=KEY,
            tools=(model.ToolDefinition(KEY, KEY, {KEY: KEY}),), output_schema=KEY,
        ),
        model.DialogOpened(dialog=1, agent=KEY, alias=KEY),
        model.MessageAdded(message=1, dialog=1, content=content, why="user", prompt=KEY,
                           prompt_args=KEY),
        model.LLMFailed(request=1, asked=KEY, error=error, partial=content, elapsed=1,
                        usage_raw={KEY: KEY}),
        model.ToolReturned(tool=1, message=1, content=content, value=KEY, elapsed=1),
        model.ToolFailed(tool=1, message=1, content=content, error=error, elapsed=1),
        model.RetryScheduled(call=1, request=1, kind="exception", attempt=1, limit=1, reason=KEY),
        model.ErrorRecorded(error=error, context=KEY, partition=KEY, salt=salt),
        model.LogGap(lost=1, first_time=1, last_time=1, reason=KEY, salt=salt),
    ]  # fmt: skip
    for event in events:
        record = recorded(event)
        assert KEY.encode() not in record.data, event.type
        expected = codec.encode(event).count(KEY.encode())
        assert redacted_in(record) == {"openai-key": expected}
        assert record.data.count(b"[redacted: openai-key]") == expected
        assert type(codec.decode(record)) is type(event)


def test_what_lllm_made_is_never_cut() -> None:
    """Salts, owners, ids and digests stay, even where one looks like a secret by chance."""
    salt = base64.b64decode("AKIA" + "B" * 16 + "/" + "x" * 22 + "=")
    event = model.SessionStarted(
        tactic_path="t", name="t", task=KEY, owner="4111111111111111", host="4111111111111111",
        ancestors=(model.Ancestor("4111111111111111".zfill(26), "t"),), pid=4111111111111111,
        salt=salt,
    )  # fmt: skip
    data = payload(event, [CARD, EMAIL])
    kept = codec.decode(recorded(event, [CARD, EMAIL]))
    assert kept == msgspec.structs.replace(event, task="[redacted: openai-key]")
    assert b"AKIA" in data


def test_two_secret_keys_of_a_dict_stay_two() -> None:
    """Where two keys of a dict leave the same mark, neither value is lost."""
    value = {KEYS["openai"][1]: 1, KEY: 2, "plain": 3}
    assert written(value) == {
        "[redacted: openai-key]": 1, "[redacted: openai-key] 2": 2, "plain": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    "unit",
    ["sk-", "sk-proj-", "4", "4111 ", "a@", "x@a-", "-", "_A", "xoxb-1-", "bearer ", "eyJaaaaaaaa.",
     "secret_access_key=", "glpat-", "x@a.", "a", "ghp_", "\\n"],
)  # fmt: skip
def test_no_text_takes_for_ever(unit: str) -> None:
    """A long text that begins like a secret again and again is searched in one go; in a search
    that goes back at each of its beginnings this test would not end."""
    text = unit * (150_000 // len(unit))
    assert KEY not in str(written([text, f"{text} {KEY}"], [EMAIL, CARD, BEARER]))


# -- what can be asked for

CARDS = [
    "4111111111111111", "4111 1111 1111 1111", "4111-1111-1111-1111", "5500005555555559",
    "378282246310005", "3782 822463 10005", "30569309025904", "6304000000000000000",
    "2223003122003222", "4222222222222", "9792030394440796", "4000 0000 0000 0000 006",
]  # fmt: skip


@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("around", ["{}", "no.{}, please", "card:{}.", "\\n{}\\n", "({})"])
def test_card_numbers_are_cut(card: str, around: str) -> None:
    """CARD cuts numbers of 13 to 19 digits with the right check digit, as they are printed."""
    text = around.format(card)
    assert written(text) == text
    assert written(text, [CARD]) == around.format("[redacted: card]")


@pytest.mark.parametrize(
    "text",
    [
        "4111111111111112", "4111 1111 1111 1112", "411111111111", "41111111111111111111",
        "0.4111111111111111", "4111111111111111.5", "1763908000000000000", "x4111111111111111",
        "2026-11-23 15:30", "9 4111 1111 1111 1111", "4111 1111 1111 1111 9", "1234567890123",
        "550e8400-e29b-41d4-a716-446655440000", "[4111, 1111, 1111, 1111]", "4111-1111 1111-1111",
    ],
)  # fmt: skip
def test_other_numbers_stay(text: str) -> None:
    """A wrong check digit, a longer number, a fraction, a time or an id is no card."""
    assert written(text, [CARD]) == text


def test_a_card_may_be_a_number() -> None:
    """A whole number that somebody gave is cut where it is a card; lllm's own numbers, and those
    of a model's usage, never are."""
    card = 4111111111111111
    assert written({"pay": [card, card + 1, -card, 1.5]}, [CARD]) == {
        "pay": ["[redacted: card]", card + 1, -card, 1.5]
    }
    ours = model.LLMFailed(
        request=card, asked="m", error=model.Error("E", "m"), elapsed=card, retry_after=card,
        usage_raw={"tokens": card},
    )  # fmt: skip
    assert payload(ours, [CARD]) == codec.encode(ours)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("ask ann.b+c@mail.example.org!", "ask [redacted: email]!"),
        ("<a@b.co>, d_e@f-g.museum", "<[redacted: email]>, [redacted: email]"),
        ('{"to": "one\\nann@b.org"}', '{"to": "one\\n[redacted: email]"}'),
        ("mailto:ann@b.org.", "mailto:[redacted: email]."),
        ("é:ann@b.org", "é:[redacted: email]"),
    ],
)
def test_email_addresses_are_cut(text: str, left: str) -> None:
    """EMAIL cuts addresses as providers give them out, wherever they stand in a text."""
    assert written(text) == text
    assert written(text, [EMAIL]) == left


@pytest.mark.parametrize(
    "text",
    ["a@b", "@decorator", "me@localhost", "x @ y.org", "@scope/package@1.2.3", "a@-b.org",
     "f" * 70 + "@b.org", "user@10.0.0.1", "a@b.c"],
)  # fmt: skip
def test_what_is_no_address_stays(text: str) -> None:
    """Decorators, packages and hosts without a domain are no addresses."""
    assert written(text, [EMAIL]) == text


TOKEN = made(ALPHANUMERIC, 20) + "-1.x~y+/="
SENT = "[redacted: authorization]"
JWT = f"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJ{made(URL_SAFE, 30)}.{made(URL_SAFE, 43)}"


@pytest.mark.parametrize(
    ("value", "left"),
    [
        (f"Authorization: Bearer {TOKEN}\r\n", f"Authorization: Bearer {SENT}\r\n"),
        ({"authorization": f"bearer {TOKEN}"}, {"authorization": f"bearer {SENT}"}),
        (f"token={JWT};", "token=[redacted: jwt];"),
        (f"Bearer {JWT}", "Bearer [redacted: jwt]"),
        (f"Bearer {KEY}", "Bearer [redacted: openai-key]"),
    ],
)  # fmt: skip
def test_bearer_tokens_are_cut(value: object, left: object) -> None:
    """BEARER cuts the token of a header (RFC 6750) and JSON Web Tokens (RFC 7519); a known key has
    been cut before it."""
    assert written(value, [BEARER]) == left


@pytest.mark.parametrize(
    "text", ["the bearer of responsibilities", "Bearer token", "Bearer ${TOKEN}", "eyJ.eyJ.x"]
)
def test_words_are_no_bearer_tokens(text: str) -> None:
    """`Bearer` before a word, or before a name for a token, is prose."""
    assert written(text, [BEARER]) == text


def test_a_pattern_of_ones_own() -> None:
    """A Pattern is a name and a regular expression, with a check of what is cut if it likes; a
    group named `secret` is all that is cut."""
    even = Pattern("even", r"T-(?P<secret>[0-9]{4})", lambda digits: int(digits) % 2 == 0)
    assert written("T-1234 T-1235", [even]) == "T-[redacted: even] T-1235"
    assert written({"T-1234": "T-8888"}, even) == {"T-[redacted: even]": "T-[redacted: even]"}
    assert written(b"T-1234\xff", [even]) == b"T-[redacted: even]\xff"
    assert counts(["T-1234", {"T-8888": "T-1"}], [even]) == {"even": 2}
    assert written(["a1", "a2 b"], [Pattern("p", "a[0-9]", needs="b")]) == ["a1", "[redacted: p] b"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Pattern("x", "("),
        lambda: Pattern("x", "a*"),
        lambda: Pattern("", "a"),
        lambda: Pattern("a]", "a"),
        lambda: Pattern("x", b"a"),  # type: ignore[arg-type] # that is the point
        lambda: checked(["email"]),  # type: ignore[list-item] # that is the point
        lambda: checked("email"),  # type: ignore[arg-type] # that is the point
        lambda: checked(7),  # type: ignore[arg-type] # that is the point
    ],
)
def test_a_wrong_redact_is_a_config_error(make: object) -> None:
    """A pattern that can't be, or fits the empty text, and what is no pattern, is a ConfigError."""
    with pytest.raises(ConfigError):
        make()  # type: ignore[operator] # a function


def test_patterns_travel() -> None:
    """Ready patterns, and a list of them, go to other processes by pickle and come back equal."""
    given = checked([EMAIL, CARD, BEARER])
    assert given == (EMAIL, CARD, BEARER)
    copied = pickle.loads(pickle.dumps(given))
    assert copied == given
    assert pickle.dumps(copied) == pickle.dumps(given)
    assert written("a@b.org 4111111111111111", copied) == "[redacted: email] [redacted: card]"


def test_functions_and_patterns_mix() -> None:
    """A list is done in its order; no function sees an API key, and one that brings a key in does
    not get it written. All that patterns cut is counted."""
    seen: list[object] = []

    def function(_: str, values: object) -> object:
        seen.append(json.loads(json.dumps(values)))
        assert isinstance(values, dict)
        return values | {"arguments": [values["arguments"], KEYS["aws"][1], "c@d.org"]}

    value = f"{KEY} a@b.org"
    left = "[redacted: openai-key] [redacted: email]"
    assert written(value, [EMAIL, function]) == [left, "[redacted: aws-key-id]", "c@d.org"]
    assert counts(value, [EMAIL, function]) == {"aws-key-id": 1, "email": 1, "openai-key": 1}
    assert "sk-" not in str(seen)
    assert "@" not in str(seen)
    assert written(value, [function, EMAIL])[2] == "[redacted: email]"  # type: ignore[index] # list


@pytest.mark.parametrize("wrong", ["raises", "breaks"])
def test_a_check_that_raises_leaves_marks(wrong: str) -> None:
    """Where a check raises, or a pattern takes apart what makes the payload one, nothing of its
    content is written, nor any key of what is left."""

    def check(_: str) -> bool:
        raise ValueError

    pattern = Pattern("p", "hello", check) if wrong == "raises" else Pattern("p", "role|hello")
    event = model.MessageAdded(
        message=1, dialog=1, content=model.Content.of("user", "hello"), why="user", prompt=KEY
    )
    record = recorded(event, [pattern])
    assert b"hello" not in record.data
    assert KEY.encode() not in record.data
    kept = codec.decode(record)
    assert isinstance(kept, model.MessageAdded)
    assert "redact failed" in kept.content.text
    assert kept.prompt == "[redacted: openai-key]"


def test_a_look_that_raises_leaves_marks(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault in the search for secrets keeps the content out of the log, and breaks no program."""

    def look(data: bytes) -> bool:
        if b"hello" in data:
            raise ValueError("a fault")
        return may_hold_secret(data)

    monkeypatch.setattr(redaction, "payload_may_hold_secret", look)
    event = model.MessageAdded(
        message=1, dialog=1, content=model.Content.of("user", "hello"), why="user"
    )
    record = recorded(event, None)
    assert b"hello" not in record.data
    assert "redact failed" in str(codec.decode(record))
    assert "the search for secrets raised ValueError" in caplog.text


def test_counts_are_read_only_where_they_are_counts() -> None:
    """The counts are a member of the payload itself; what a user calls alike is no count."""
    assert counts({"$lllm_redacted": {"x": 1}}) == {}
    record = recorded(event_of([KEY, {"$lllm_redacted": {"x": 1}}]))
    assert json.loads(record.data)["$lllm_redacted"] == {"openai-key": 1} == redacted_in(record)
    for data in (b'{"$lllm_redacted":{"a":"b"}}', b'["$lllm_redacted"]', b'"$lllm_redacted', b"{}"):
        assert redacted_in(Recorded(1, "s", 1, 1, "t", 1, data, b"")) == {}


# -- in a store


@tool(description="Fetch something.")
def fetch(token: str, note: str) -> str:
    """A tool that tells all it knows."""
    assert token == KEYS["github"][1]
    if note == "fail":
        raise RuntimeError(f"no access with {token}")
    return f"fetched with {token}, found {KEYS['aws'][1]}"


def telling(request: Request) -> Reply:
    """A model that uses the tool with a key, and then says one."""
    said = request.messages[-1]
    if said.role == "user":
        note = "fail" if "fail" in said.text else "go"
        return tool_call("fetch", {"token": KEYS["github"][1], "note": note})
    return f"the key is {KEYS['anthropic api'][1]}"


class Raising(Asking, register=False):
    """Asks, and then fails with what it heard."""

    name = "raising"

    def call(self, task: object, **options: object) -> object:
        """Raise what the agent says."""
        answer = super().call(task, **options)
        error = PermissionError(f"refused: {KEYS['stripe'][1]}")
        error.add_note(KEYS["groq"][1])
        raise error from ValueError(str(answer))


def bytes_of(folder: Path) -> bytes:
    """All that stands in the files of a folder."""
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def all_recorded(store: LogStore) -> list[Recorded]:
    """Every event of a store, as it was written."""
    return list(store.log.read())


def test_no_key_reaches_a_file(open_backend: OpenBackend, tmp_path: Path) -> None:
    """A tactic that handles keys everywhere works with them; no file of its store, in whichever
    backend, holds one. The marks are counted, and its sessions load as they were returned."""
    given = config(telling, tools=[fetch], system_prompt=f"You have {KEYS['xai'][1]}.")
    options = {
        "tags": {"key": KEYS["google"][1], KEYS["hugging face"][1]: "x"},
        "metadata": {KEYS["gitlab"][1]: KEYS["perplexity"][1].encode()},
        "depth": [KEYS["replicate"][1]],
    }
    with LogStore(open_backend()) as store:
        task = f"use {KEY}"
        assert KEYS["anthropic api"][1] in str(Asking(given, log_store=store)(task))
        session = called(Asking(given, log_store=store), task, **options)
        assert store.load_session(session.session_id) == session
        assert (session.state, session.unknown_events) == ("success", 0)
        assert session.task == "use [redacted: openai-key]"
        assert session.delivery == "the key is [redacted: anthropic-key]"
        lost = failed(Raising(given, log_store=store), store, "fail with " + KEY)
        assert lost.state == "failure"
        assert "refused: [redacted: stripe-key]" in str(lost.traceback)
        store.tag(session.session_id, {"later": KEYS["slack bot"][1]}, by=KEYS["groq"][1])
        error = store.save_error(ValueError(KEYS["openrouter"][1]), context={"aws": AWS_SECRET})
        assert redacted_in(next(store.events(error)))["openrouter-key"] == 2
        with store.session(f"scripts::{KEYS['github fine'][1]}", task=KEY) as recorder:
            recorder.deliver(KEY)
        assert "$lllm_redacted" in store.export_session(session.session_id, "jsonl")
        events = all_recorded(store)
        assert store.rebuild(check=True).difference is None
    cut: Counter[str] = Counter()
    for event in events:
        counted = redacted_in(event)
        inside = event.data.count(b"[redacted: ") + event.data.count(
            base64.b64encode(b"[redacted: perplexity-key]")
        )
        assert sum(counted.values()) == inside, event.type
        cut += Counter(counted)
    assert {KEYS[kind][0] for kind in KEYS if kind != "aws temporary"} <= set(cut)
    files = bytes_of(tmp_path)
    assert b"[redacted: openai-key]" in files
    for _, key in KEYS.values():
        assert key.encode() not in files
        assert base64.b64encode(key.encode()) not in files


def test_ready_patterns_of_a_store(open_backend: OpenBackend, tmp_path: Path) -> None:
    """LogStore(redact=[...]) cuts what its patterns fit from all that it writes."""

    def echo(request: Request) -> Reply:
        return f"re: {request.messages[-1].text}"

    redact: Redact = [EMAIL, CARD]
    with LogStore(open_backend(), redact=redact) as store:
        session = called(Asking(config(echo), log_store=store), "ann@b.org paid 4111111111111111")
        assert session.delivery == "re: [redacted: email] paid [redacted: card]"
        assert store.load_session(session.session_id) == session
        total: Counter[str] = Counter()
        for event in all_recorded(store):
            total += Counter(redacted_in(event))
        assert total["email"] == total["card"] > 0
    files = bytes_of(tmp_path)
    assert b"ann@b.org" not in files
    assert b"4111111111111111" not in files


def test_without_a_store_the_session_is_cut_too() -> None:
    """A call that no store keeps returns a session without keys all the same."""

    class Homeless(Asking, register=False):
        name = "homeless"

    with pytest.warns(UserWarning, match="no log store"):
        session = called(Homeless(config(telling, tools=[fetch])), f"use {KEY}")
    assert session.task == "use [redacted: openai-key]"
    assert "anthropic" in cast(str, session.delivery)


def test_the_reason_of_a_price_is_looked_at() -> None:
    """What a model is called stands in it, and that may be anything."""
    mail = "ann@mail.example.org"
    event = model.LLMResponded(
        request=1,
        message=1,
        content=model.Content.of("assistant", "x"),
        finish="stop",
        asked="m",
        model="m",
        elapsed=1,
        price=model.Price("unpriced", reason=f"No price for {mail}."),
    )
    assert mail not in payload(event, checked([EMAIL])).decode()
