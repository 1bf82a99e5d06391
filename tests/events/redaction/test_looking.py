"""The fast look at a payload sees whatever the slow cut would find in it."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
import string
import tracemalloc
import uuid
from collections import Counter
from urllib.parse import quote

import pytest

from lllm.events import codec
from lllm.events.redaction import secret_prefilter as looking
from lllm.events.redaction.api_key_formats import api_key_formats
from lllm.events.redaction.cut_text import cut_secrets
from lllm.events.redaction.secret_prefilter import may_hold_secret

_random = random.Random(20261127)
_CLASS = re.compile(r"(\[[^\]]+\])(?:\{(\d+)(?:,\d*)?\}|(\+))?")


def an_example(prefix: str, regex: str) -> str:
    """A key of a format whose rest is a row of sets of characters; empty where it is more."""
    rest = re.sub(r"\(\?<?[!=][^)]*\)", "", regex.removeprefix(re.escape(prefix)))
    parts = [prefix]
    while rest:
        found = _CLASS.match(rest)
        if found is None and (rest[0].isalnum() or rest[0] in "_-" or rest.startswith("\\.")):
            parts.append(rest[:2].strip("\\") if rest[0] == "\\" else rest[0])
            rest = rest.removeprefix("\\")[1:]
            continue
        if found is None:
            return ""
        inside = re.compile(found[1])
        letters = [c for c in string.ascii_letters + string.digits if inside.fullmatch(c)]
        parts += _random.choices(letters, k=int(found[2] or 24))
        rest = rest[found.end() :]
    return "".join(parts)


EXAMPLES = {
    f"{key.prefix} {key.regex.pattern[-30:]}": example
    for key in api_key_formats()
    if len(example := an_example(key.prefix, key.regex.pattern)) >= 20
    and cut_secrets(example, Counter(), look=False) != example
}


def _hidden(key: str) -> dict[str, str]:
    middle = len(key) // 2
    return {
        "alone": key, "in prose": f"The one for tests is {key}, and no other.",
        "letter": f"x{key}", "number": f'{{"a": 1, "k": {json.dumps(key)}}}',
        "line": f"{key[:middle]}\n{key[middle:]}", "early": f"{key[:2]}\n{key[2:]}",
        "indented": f"{key[:-20]}\n      {key[-20:]}", "url": quote(key, safe=""),
        "base64": base64.b64encode(f"the key is {key}".encode()).decode(),
        "hex": f"x{key.encode().hex()}", "zeros": "\0".join(key),
        "escapes": "".join(f"\\u{ord(c):04x}" for c in key),
    }  # fmt: skip


def test_most_formats_have_an_example() -> None:
    """The examples are of more than a hundred formats."""
    assert len(EXAMPLES) > 100


@pytest.mark.parametrize("hidden", list(_hidden("k" * 40)))
def test_every_format_is_seen(hidden: str) -> None:
    """What the slow cut finds of a key of any format, the look has seen, in text and in JSON."""
    unseen = []
    for name, key in EXAMPLES.items():
        text = _hidden(key)[hidden]
        if cut_secrets(text, Counter(), look=False) == text:
            continue
        for data in (text.encode(), codec.encode([text]), json.dumps({"a": text}).encode()):
            if not may_hold_secret(data):
                unseen.append((name, key))
    assert unseen == []


KEY = "sk-" + "proj-" + "".join(_random.choices(string.ascii_letters + string.digits, k=60))


@pytest.mark.parametrize("shift", [-70, -40, -1, 0, 1, 40])
def test_a_long_payload_is_seen_whole(shift: int) -> None:
    """A payload is looked at in windows, and a key on the edge of two is in one of them."""
    before = "word " * ((looking._WINDOW + shift) // 5)
    assert may_hold_secret(f"{before}{KEY} and {before}".encode())
    assert not may_hold_secret(f"{before}{KEY[:30]} and {before}".encode())


@pytest.mark.parametrize("at", [100, 700_000, 1_500_001])
def test_a_long_base64_is_seen_whole(at: int) -> None:
    """A secret in a file of two megabytes is seen through base64."""
    data = bytearray(_random.randbytes(2_000_000))
    assert not may_hold_secret(base64.b64encode(data))
    secret = f"OPENAI_API_KEY={KEY} "
    data[at : at + len(secret)] = secret.encode()
    assert may_hold_secret(base64.b64encode(data))


@pytest.mark.parametrize("before", ["", "a", "ab", "abc"])
@pytest.mark.parametrize("at", [300_000, 600_001])
def test_a_base64_is_followed_from_window_to_window(before: str, at: int) -> None:
    """A secret in a long base64 is seen wherever the base64 begins: the look knows in each window
    which of four characters is the first."""
    data = bytearray(_random.randbytes(700_000))
    secret = f"OPENAI_API_KEY={KEY} ".encode()
    data[at : at + len(secret)] = secret
    assert may_hold_secret(f"{before},{base64.b64encode(data).decode()}".encode())


def test_keys_among_uuids_are_seen() -> None:
    """UUIDs are passed over, and what stands between them is not, though it is made of one."""
    many = [str(uuid.UUID(int=_random.getrandbits(128))) for _ in range(40)]
    text = codec.encode([{"id": each, "n": number} for number, each in enumerate(many)])
    assert not may_hold_secret(text)
    for key in (f"sk-lf-{many[3]}", f"fc-{many[3].replace('-', '')}", KEY):
        for spaced in (f'"{many[0]}", "{key}", "{many[1]}"', f"{many[0]} {key} {many[1]}",
                       f'"{many[0]}"\\n    {key}'):  # fmt: skip
            assert may_hold_secret(text + spaced.encode())


def test_base64_beside_a_digest_is_decoded() -> None:
    """A run that is a digest for the most part is decoded all the same where it goes on."""
    digest = hashlib.sha256(b"any").hexdigest()
    encoded = base64.b64encode(b"pwd=" + KEY[:24].encode() + b";api_key=x9" + KEY.encode()).decode()
    assert not may_hold_secret(f'"definition-{digest}", "msg_{digest[:48]}"'.encode())
    for text in (f"{digest}/{encoded}", f"definition-{digest}/{encoded}"):
        assert may_hold_secret(f'"{text}"'.encode())
    for key in ("dapi" + digest[:32], "sk_" + digest[:48], f"x{KEY.encode().hex()}"):
        assert may_hold_secret(f'"{digest}", "{key}"'.encode())


@pytest.mark.parametrize("command", ["export", "setx", "setenv", "ENV"])
def test_a_name_is_seen_behind_a_command(command: str) -> None:
    """A secret is set by a command, its name and a blank; the look leaves a URL's name alone."""
    for name in ("DB_PASSPHRASE", "HF_TOKEN", "my_password", "A_SECRET_2", "api key"):
        assert may_hold_secret(f"run: {command} {name} h7Gx9qLm2".encode())
    assert may_hold_secret(b"tool --passphrase h7Gx9qLm2")
    assert not may_hold_secret(f"run: {command} TOKEN_URL=https://a.example.org/v1".encode())


@pytest.mark.parametrize("blanks", ["", " ", "\t", "   ", 8 * " "])
def test_a_name_is_seen_before_blanks(blanks: str) -> None:
    """A name stands before what joins it to its value, with blanks between them or without."""
    for text in (
        "db_password{}= 'hunter2x9'", '"client_secret"{}: "h7Gx9qLm2"', "API_KEY{}=h7Gx9qLm2",
        "setx{} API_TOKEN h7Gx9qLm2", "ENV{} A_KEY h7Gx9qLm2", "setenv {}A_KEY h7Gx9qLm2",
    ):  # fmt: skip
        assert may_hold_secret(text.format(blanks).encode())


@pytest.mark.parametrize(
    "unit", ["\\u0041", "\\x41", "a\\", "Ab~", "A_", "A\\n", "é1", "Z=", "%41", "\0A"]
)
def test_long_odd_runs_are_looked_at(unit: str) -> None:
    """Whatever a long run is made of, the look ends without an error."""
    for length in (9_000, 40_001, 300_003):
        text = "x" + unit * (length // len(unit))
        for data in (text.encode(), codec.encode(text), json.dumps(text).encode()):
            assert may_hold_secret(data) in (True, False)


def test_the_look_copies_little() -> None:
    """The look at a payload of 16 MB takes a few megabytes beside it."""
    data = ("The quick brown fox. " * 800_000).encode()
    tracemalloc.start()
    try:
        assert not may_hold_secret(data)
        assert tracemalloc.get_traced_memory()[1] < 6 << 20
    finally:
        tracemalloc.stop()


def test_what_was_harmless_is_looked_at_where_it_may_be_more() -> None:
    """A run that was no secret is looked at again beside what it may belong to."""
    body = "".join(_random.choices(string.ascii_letters + string.digits, k=40))
    assert not may_hold_secret(f'"{body}"'.encode())
    assert may_hold_secret(f'"hvs.{body}"'.encode())
    assert not may_hold_secret(f'"{body}"'.encode())
    encoded = KEY
    for _ in range(3):
        encoded = base64.b64encode(encoded.encode()).decode()
    outer = base64.b64encode(f"say {encoded}".encode()).decode()
    may_hold_secret(outer.encode())
    assert may_hold_secret(encoded.encode())
