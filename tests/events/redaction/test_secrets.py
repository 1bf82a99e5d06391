"""No secret is written, wherever in an event it stands and however it is written down; and no
ordinary text is taken for one."""

# ruff: noqa: E501 (tables of formats and texts)
from __future__ import annotations

import base64
import json
import random
import string
import typing
from collections import Counter
from collections.abc import Iterator
from urllib.parse import quote

import msgspec
import pytest

from lllm.events import codec, model
from lllm.events.model import Content, Part
from lllm.events.redaction.api_key_formats import KeyFormat, api_key_formats
from lllm.events.redaction.cut_text import cut_secrets
from lllm.events.redaction.randomness import is_words
from lllm.events.redaction.redact import payload
from lllm.events.redaction.secret_prefilter import may_hold_secret
from lllm.events.values.json_values import to_plain
from lllm.instrumentation.resent_answers import digests_of
from tests.support.ordinary_texts import ordinary_texts

_random = random.Random(20261126)
ALPHANUMERIC = string.ascii_letters + string.digits


def made(alphabet: str, length: int) -> str:
    """The random part of a key that nobody owns."""
    return "".join(_random.choices(alphabet, k=length))


KEY = "sk-" + "proj-" + made(ALPHANUMERIC, 60)
OPAQUE = "Zq8" + made(ALPHANUMERIC, 24)
JWT = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0." + made(ALPHANUMERIC, 43)
KEYS = {
    "openai": KEY,
    "anthropic": "sk-" + "ant-api03-" + made(ALPHANUMERIC + "-_", 93) + "AA",
    "google": "AIza" + "Sy" + made(ALPHANUMERIC, 33),
    "google oauth": "ya" + "29." + made(ALPHANUMERIC + "-_", 120),
    "google client": "GOC" + "SPX-" + made(ALPHANUMERIC, 28),
    "aws": "AKIA" + made(string.ascii_uppercase + "234567", 16),
    "github": "ghp_" + made(ALPHANUMERIC, 36),
    "nvidia": "nvapi-" + made(ALPHANUMERIC, 64),
    "pinecone": "pcsk_" + made(ALPHANUMERIC, 70),
    "langsmith": "lsv2_"
    + "pt_"
    + made("0123456789abcdef", 32)
    + "_"
    + made("0123456789abcdef", 10),
    "npm": "npm_" + made(ALPHANUMERIC, 36),
    "pypi": "pypi-" + "AgEIcHlwaS5vcmc" + made(ALPHANUMERIC, 150),
    "sendgrid": "SG" + "." + made(ALPHANUMERIC, 22) + "." + made(ALPHANUMERIC, 43),
    "vault": "hvs" + "." + made(ALPHANUMERIC, 90),
    "digitalocean": "dop_" + "v1_" + made("0123456789abcdef", 64),
    "bedrock": "ABSK" + made(ALPHANUMERIC, 128),
    "jwt": JWT,
}


def written(value: object) -> bytes:
    """What is written of a value that a tool was called with."""
    event = model.ToolCalled(tool=1, request=1, call_id="c", name="t", arguments=to_plain(value))
    return payload(event, None)


def leaks(secret: str, data: bytes) -> bool:
    """Whether a third of a secret, or more, can be read in what was written."""
    text, length = data.decode(), len(secret) // 3
    return any(secret[at : at + length] in text for at in range(len(secret) - length + 1))


# -- every field of every event


def _filled(kind: object, text: str) -> Iterator[tuple[str, object]]:
    """Values of a type, each with the text in one more place, and the name of the place."""
    if kind is str:
        yield "", text
    elif kind is object:
        yield "", {"inside": [text]}
        yield " key", {text: 1}
    elif isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        for field in msgspec.structs.fields(kind):
            for name, value in _filled(field.type, text):
                yield f".{field.name}{name}", _struct(kind, **{field.name: value})
    elif typing.get_origin(kind) in (tuple, dict):
        yield from _filled_container(kind, text)
    else:
        for option in typing.get_args(kind):
            if option is not type(None):
                yield from _filled(option, text)


def _filled_container(kind: object, text: str) -> Iterator[tuple[str, object]]:
    inner = typing.get_args(kind)
    if typing.get_origin(kind) is tuple:
        for name, value in _filled(inner[0], text):
            yield f"[]{name}", (value,)
        return
    yield " key", {text: _plain(inner[1])}
    for name, value in _filled(inner[1], text):
        yield f"{{}}{name}", {"a": value}


def _plain(kind: object) -> object:
    """Any value of a type."""
    if kind in (str, object):
        return "x"
    if kind is bytes:
        return b"x" * 32
    if kind is bool:
        return False
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _struct(kind)
    origin, options = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return options[0]
    if origin in (tuple, dict):
        return origin()
    return 1 if kind is int or origin is typing.Annotated else _plain(options[0])


def _struct(kind: type[msgspec.Struct], /, **given: object) -> msgspec.Struct:
    needed = {
        field.name: _plain(field.type)
        for field in msgspec.structs.fields(kind)
        if field.required and field.name not in given
    }
    return kind(**needed, **given)


PLACES = [
    pytest.param(event, id=f"{kind.type}{name}")
    for kind in model.EVENTS.values()
    for name, event in _filled(kind, KEY)
]


@pytest.mark.parametrize("event", PLACES)
def test_no_field_is_exempt(event: model.Event) -> None:
    """A key in any text of any event, in a key of an object too, is not written."""
    assert KEY.encode() in codec.encode(event)
    assert KEY.encode() not in payload(event, None)


def test_every_text_is_tried() -> None:
    """The places above are those of all events, the reason of a price among them."""
    assert len(PLACES) > 150
    assert any(place.id == "llm.responded.price.reason" for place in PLACES)


# -- however it is written


def _disguises(key: str) -> dict[str, object]:
    middle = len(key) // 2
    wide = "".join(chr(ord(c) + 0xFEE0) for c in key)
    return {
        "letter": f"x{key}", "invisible in front": f"\u200b{key}",
        "invisible inside": f"{key[:9]}\u200b{key[9:]}", "accent": f"{key[:9]}\u0301{key[9:]}",
        "wide": wide, "line": f"it is\n{key[:middle]}\n{key[middle:]}\nThanks",
        "line early": f"{key[:3]}\n{key[3:]}", "indented": f'"{key[:middle]}\n    {key[middle:]}"',
        "escaped line": f"{key[:middle]}\\n{key[middle:]}",
        "narrow": "\n".join(key[at : at + 20] for at in range(0, len(key), 20)),
        "base64": base64.b64encode(f"key={key} x".encode()).decode(),
        "base64 unpadded": base64.urlsafe_b64encode(f"k={key}".encode()).decode().rstrip("="),
        "base64 of utf-16": base64.b64encode(key.encode("utf-16")).decode(),
        "base64 twice": base64.b64encode(base64.b64encode(key.encode())).decode(),
        "base64 lines": base64.encodebytes(f"some text and then {key} and more".encode()).decode(),
        "hex": key.encode().hex(), "url": quote(key, safe=""),
        "url all": "".join(f"%{ord(c):02X}" for c in key),
        "url twice": "".join(f"%25{ord(c):02x}" for c in key),
        "utf-16": key.encode("utf-16"), "utf-16 text": key.encode("utf-16-le").decode("latin-1"),
        "escapes": "".join(f"\\u{ord(c):04x}" for c in key), "bytes": key.encode(),
        "json in json": json.dumps({"a": json.dumps({"b": key})}),
    }  # fmt: skip


@pytest.mark.parametrize("key", KEYS.values(), ids=list(KEYS))
@pytest.mark.parametrize("disguise", list(_disguises("k" * 40)))
def test_disguised_keys_are_cut(key: str, disguise: str) -> None:
    """A key behind a letter or an invisible character, over lines, or encoded, is cut; what can be
    read of it again is not in what was written."""
    value = _disguises(key)[disguise]
    data = written(value)
    assert b"redacted" in data
    assert not leaks(key, data)
    assert str(value) not in data.decode()


def test_many_issuers_are_known() -> None:
    """The keys of more than a hundred issuers' kinds are known by their prefixes."""
    assert len({key.name for key in api_key_formats()}) > 90


AROUND_HEADERS = [
    "{n}: {v}", "GET / HTTP/1.1\r\nHost: a.b\r\n{n}: {v}\r\n\r\n", '{{"{n}": "{v}"}}',
    "{{'{n}': '{v}'}}", "Headers({{'host': 'x', '{n}': '{v}'}})", "[('{n}', '{v}')]",
    '[["{n}","{v}"]]', "[(b'{n}', b'{v}')]", "curl -H '{n}: {v}' https://x.org",
    'curl --header "{n}: {v}" x', '{{\n "{n}":\n   "{v}"\n}}', 'x={{\\"{n}\\": \\"{v}\\"}}',
]  # fmt: skip
BASIC = base64.b64encode(b"aladdin:opensesame").decode()
HEADERS = [
    ("Authorization", f"Bearer {OPAQUE}", OPAQUE), ("authorization", f"Basic {BASIC}", BASIC),
    ("Authorization", f"Token {OPAQUE}", OPAQUE), ("Proxy-Authorization", f"Basic {BASIC}", BASIC),
    ("Authorization", OPAQUE, OPAQUE), ("x-api-key", OPAQUE, OPAQUE), ("api-key", OPAQUE, OPAQUE),
    ("x-goog-api-key", OPAQUE, OPAQUE), ("X-Auth-Token", OPAQUE, OPAQUE),
    ("Cookie", f"theme=dark; sid={OPAQUE}", OPAQUE), ("Set-Cookie", f"sid={OPAQUE}; Path=/", OPAQUE),
]  # fmt: skip


@pytest.mark.parametrize("around", AROUND_HEADERS)
@pytest.mark.parametrize(("name", "value", "secret"), HEADERS)
def test_headers_are_cut(around: str, name: str, value: str, secret: str) -> None:
    """Credentials in headers are cut whatever their scheme, in text, JSON, reprs and commands."""
    data = written(around.format(n=name, v=value))
    assert not leaks(secret, data)
    assert b"[redacted: " in data


@pytest.mark.parametrize(("name", "value", "secret"), HEADERS)
@pytest.mark.parametrize("shape", ["dict", "pairs", "bytes", "har", "base64"])
def test_headers_in_values_are_cut(shape: str, name: str, value: str, secret: str) -> None:
    """The same where the header is a member, a pair, or named beside its value."""
    values: dict[str, object] = {
        "dict": {name: value}, "pairs": [(name, value)],
        "bytes": [(name.encode(), value.encode())], "har": [{"name": name, "value": value}],
        "base64": base64.b64encode(json.dumps({name: value}).encode()).decode(),
    }  # fmt: skip
    data = written(values[shape])
    assert not leaks(secret, data)
    assert not leaks(base64.b64encode(value.encode()).decode()[8:-8], data)


@pytest.mark.parametrize(
    "scheme",
    ['Digest username="Mufasa", realm="a", nonce="7ypf", response="{}"',
     "AWS4-HMAC-SHA256 Credential=a/20130524/s3, SignedHeaders=host;range, Signature={}"],
)  # fmt: skip
def test_schemes_with_parameters_are_cut_whole(scheme: str) -> None:
    """Of Digest and its like all parameters are cut."""
    value = scheme.format(OPAQUE)
    for given in (f"Authorization: {value}\r\nHost: x", {"Authorization": value},
                  json.dumps({"Authorization": value})):  # fmt: skip
        data = written(given)
        assert not leaks(OPAQUE, data)
        assert b"Mufasa" not in data


ASSIGNED = [
    "export OPENAI_API_KEY={}", "A=1\nFOO_SECRET={}\nB=2", 'GITHUB_TOKEN="{}"',
    "docker run -e DB_PASSWORD={} img", "ENV HF_TOKEN {}", '{{"client_secret": "{}"}}',
    "https://a.b/c?access_token={}&x=1", "tool --api-key {} run", "tool --token={} run",
    "api_key='{}'", "password: {}", "curl -u bob:{} https://x", "postgres://bob:{}@h/db",
    "amqp://:{}@h:1/", "machine x login bob password {}", "Server=a;Uid=b;Pwd={};",
    "https://hooks.slack.com/services/T00000000/B00000000/{}",
]  # fmt: skip


@pytest.mark.parametrize("around", ASSIGNED)
def test_what_a_name_tells_is_cut(around: str) -> None:
    """Values of variables, parameters, options and URLs that are secrets by their names."""
    assert not leaks(OPAQUE, written(around.format(OPAQUE)))
    assert not leaks(OPAQUE, written(["tool", "--token", OPAQUE]))


@pytest.mark.parametrize("label", ["", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED ", "PGP "])
@pytest.mark.parametrize("line", ["\n", "\\n", "\r\n", " ", "", "\n    "])
def test_private_keys_are_cut(label: str, line: str) -> None:
    """Private keys in PEM of any kind, on one line too, and where their end is missing."""
    block = " BLOCK" if label == "PGP " else ""
    body = [made(ALPHANUMERIC + "+/", 64) for _ in range(4)]
    begin, end = (f"-----{word} {label}PRIVATE KEY{block}-----" for word in ("BEGIN", "END"))
    whole = line.join((begin, *body, end))
    for text in (whole, json.dumps({"private_key": whole}), whole[:200], f"a {whole} b"):
        assert not leaks(body[1], written(text))


# -- and nothing else


def test_ordinary_texts_are_left_alone() -> None:
    """Ten thousand texts, hashes, ids, identifiers and blobs are written as they are."""
    for text in ordinary_texts(10_000):
        event = model.ToolCalled(tool=1, request=1, call_id="c", name="t", arguments=text)
        if may_hold_secret(codec.encode(event)):
            assert cut_secrets(text, Counter(), look=False) == text
            assert payload(event, None) == codec.encode(event)


@pytest.mark.parametrize(
    "unit",
    ["\\", "%25", "\\u0041", "\u200b", "\n", "a\nb", "password: ", "Authorization: Digest ", "-",
     "://a:", "-----BEGIN PRIVATE KEY-----", "eyJ", "=", "key", "'", "--token ", "A.", "sk-"],
)  # fmt: skip
def test_long_texts_end(unit: str) -> None:
    """A text that begins like a secret again and again is looked through in bounded time."""
    text = unit * (100_000 // len(unit))
    may_hold_secret(json.dumps(text * 5).encode())
    cut_secrets(text, Counter(), look=False)


def test_the_bounds_of_what_may_be_words() -> None:
    """A long word has six letters at least; a run of 19 characters in front of a key is no base64,
    one of 20 may be."""
    assert not is_words("aeiou" * 5)
    assert is_words("aeioub" * 4)
    key = "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc"
    blob = "Zm9vYmFyYmF6cXV4MTIzNDU2Nzg5MGFiY2Rl"
    (stripe,) = [one for one in api_key_formats() if one.prefix == "sk_live_"]
    assert [len(list(stripe.spans(f"{blob[:count]}{key}"))) for count in (19, 20)] == [1, 0]


@pytest.mark.parametrize("name", ["authorization", "Authorization", "HTTP_AUTHORIZATION"])
@pytest.mark.parametrize("scheme", ["", "Digest ", "Token ", "AWS "])
def test_an_assignment_to_a_header(name: str, scheme: str) -> None:
    """What authorizes is a secret, whatever its scheme; `cookie = ...` is code."""
    value = "a8f3c2e19b7d4450aab2"
    assert value not in cut_secrets(f"{name}={scheme}{value}", Counter())
    assert cut_secrets(f"set_cookie = sid={value}", Counter()) == f"set_cookie = sid={value}"


WORDY = (
    "configuration_settings_manager_for_several_objects_",
    "configurationsettingsmanagerforobjects",
    "computed_configurationsettingsmanagerforobjects",
)


@pytest.mark.parametrize("key", api_key_formats(), ids=lambda key: f"{key.name} {key.prefix}")
def test_words_behind_a_prefix(key: KeyFormat) -> None:
    """They are a key where an issuer's keys can't be words, and an identifier elsewhere."""
    for words in WORDY:
        for length in range(8, 90):
            text = key.prefix + (words * 3)[:length]
            if key.regex.fullmatch(text) and is_words(text.removeprefix(key.prefix)):
                assert bool(list(key.spans(text))) == (
                    key.name in ANY_BODY or key.prefix == "EAAA"
                ), text


# Issuers whose prefix is no beginning of words, or whose keys have a form that no words have.
ANY_BODY = {
    "artifactory-key", "atlassian-token", "aws-bedrock-key", "azure-key",
    "circleci-token", "duffel-token", "easypost-key", "flutterwave-key", "fly-token",
    "frameio-token", "grafana-token", "openshift-token", "pypi-token", "readme-key",
    "sentry-token", "terraform-token", "typeform-token", "yandex-key",
}  # fmt: skip


def test_what_only_an_answer_says_is_not_compared() -> None:
    """A part that is known by its kind alone, and says nothing else, is not sent again."""
    said = Part("text", "Hello.")
    beside = Part("compaction", None, data={"compaction": {"a": 1}})
    spoken = Part("compaction", "Hello.", data={"compaction": {"a": 1}})
    plain = digests_of(Content("assistant", (said,)))[1]
    assert digests_of(Content("assistant", (said, beside)))[1] == plain
    assert digests_of(Content("assistant", (said, spoken)))[1] != plain


@pytest.mark.parametrize("value", ["hunter2boat", "a8f3c2e1"])
def test_a_token_in_capitals(value: str) -> None:
    """A variable of the environment is sure to hold one; `TOKEN` alone may be a word of code."""
    assert value not in cut_secrets(f"WIDGET_TOKEN={value}", Counter())
    assert cut_secrets(f"TOKEN={value}", Counter()) == f"TOKEN={value}"
