"""What the look for secrets costs, which every payload gets before it is written.

Each payload is looked at in turns with two bare operations on the same bytes: msgspec decodes them,
and `translate` passes over them once, which no look can do without. No payload holds a secret. The
ids in the small ones differ from one to the next, as they do in a program.
"""

from __future__ import annotations

import base64
import random
import string
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from benchmarks.measure import Figure, in_rounds, median_shown, ratio
from lllm.events import codec, model
from lllm.events.redaction.cut_json import payload_may_hold_secret

AREA = "redact"
_ROOT = Path(__file__).parent.parent
# Of each kind, so that hardly any is met twice in a row. Of small ones there are more than the look
# remembers.
_MANY, _MANY_SMALL = 64, 4_000
_SMALL = 1_000  # bytes
_CLASSES = bytes(97 if chr(byte).isalnum() else 32 for byte in range(256))


def figures(*, quick: bool) -> Iterator[Figure]:
    """The look at each kind of payload, beside the bare operations."""
    for kind, make in _KINDS.items():
        chance = random.Random(kind)
        large = kind.startswith("1 MB")
        count = 4 if large else _MANY_SMALL if len(make(chance)) < _SMALL else _MANY
        payloads = [make(chance) for _ in range(count)]
        rounds = (20 if quick else 200) if large else (100 if quick else 1_000)
        taken = in_rounds(_operations(payloads, times=1 if large else 10), rounds)
        beside = f"{sum(map(len, payloads)) // len(payloads):,} bytes; " + "; ".join(
            f"{name} {median_shown([each / (1 if large else 10) for each in taken[name]])}"
            for name in taken
        )
        yield Figure(AREA, f"{kind}: the look", ratio(taken["look"], taken["decode"]), "x decode",
                     beside)  # fmt: skip


def _operations(payloads: list[bytes], *, times: int) -> dict[str, Callable[[], object]]:
    decode = msgspec.json.decode

    def over(operation: Callable[[bytes], object]) -> Callable[[], object]:
        chance = random.Random(1)

        def run() -> None:
            for data in chance.choices(payloads, k=times):
                operation(data)

        return run

    return {
        "look": over(payload_may_hold_secret),
        "decode": over(decode),
        "pass": over(lambda data: data.translate(_CLASSES)),
    }


def _id(chance: random.Random, length: int) -> str:
    return "".join(chance.choices(string.ascii_letters + string.digits, k=length))


def _said(text: str) -> bytes:
    content = model.Content.of("tool", text)
    return codec.encode(model.ToolReturned(tool=1, message=2, content=content, value=None,
                                           elapsed=1))  # fmt: skip


def _small(chance: random.Random) -> bytes:
    return codec.encode(model.ToolCalled(
        tool=1, request=2, call_id=f"call_{_id(chance, 24)}", name="get_weather",
        arguments={"city": "Berlin", "unit": "celsius"},
    ))  # fmt: skip


def _request(chance: random.Random) -> bytes:
    return codec.encode(model.LLMRequested(
        request=1, call=1, step=1, attempt=1, provider="openai", api="openai",
        host="api.openai.com", port=443, model="gpt-4o-mini", dialog=1, upto=3,
        definition=f"definition-{chance.randbytes(32).hex()}", params={"temperature": 0.2},
        stream=True, digest=chance.randbytes(32).hex(),
    ))  # fmt: skip


def _prose(chance: random.Random) -> bytes:
    words = (_ROOT / "README.md").read_text().split()
    plain = [word for word in words if word.isalpha()]
    return _said(" ".join(chance.choices(plain, k=3_500))[:20_000])


def _code(chance: random.Random) -> bytes:
    files = sorted((_ROOT / "events").glob("*.py"))
    return _said("\n".join(path.read_text() for path in chance.sample(files, 6))[:28_000])


def _log(chance: random.Random) -> bytes:
    return _lines(lambda: chance.randbytes(6).hex(), chance)


def _log_with_uuids(chance: random.Random) -> bytes:
    return _lines(lambda: str(uuid.UUID(bytes=chance.randbytes(16))), chance)


def _lines(request: Callable[[], str], chance: random.Random) -> bytes:
    lines = (
        f"2026-11-27 00:{n % 60:02}:07,123 INFO lllm.worker request={request()} "
        f"path=/v1/items/{n} status=200 duration_ms={chance.randrange(999)} client=10.0.3.{n % 256}"
        for n in range(200)
    )
    return _said("\n".join(lines))


def _rows(chance: random.Random) -> bytes:
    rows = [
        {"id": n, "uuid": str(uuid.UUID(bytes=chance.randbytes(16))), "price": chance.random()}
        for n in range(200)
    ]
    return codec.encode(
        model.ToolCalled(tool=1, request=2, call_id="c", name="rows", arguments=rows)
    )


def _image(chance: random.Random) -> bytes:
    url = "data:image/png;base64," + base64.b64encode(chance.randbytes(750_000)).decode()
    content = model.Content("user", (model.Part("image", data={"url": url}),))
    return codec.encode(model.MessageAdded(message=1, dialog=1, content=content, why="user"))


_KINDS: dict[str, Callable[[random.Random], bytes]] = {
    "small event": _small, "request event": _request, "20 kB prose": _prose, "28 kB code": _code,
    "200 log lines": _log, "200 log lines with UUIDs": _log_with_uuids, "200 rows": _rows,
    "1 MB image": _image,
}  # fmt: skip
