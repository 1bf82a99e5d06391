"""A second verifier of proofs, written from docs/proofs.md alone, with nothing of lllm."""

from __future__ import annotations

import base64
import hmac
import json
import re
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MEMBERS = {
    "proof": {"format", "how", "checkpoint", "key", "streams", "path"},
    "stream": {"stream", "salt", "events"},
    "event": {"seq", "time", "type", "version", "leaf", "data", "base64", "commitment"},
}
ENDS = ("session.succeeded", "session.failed")


def need(condition: object) -> None:
    """Refuse the proof otherwise."""
    if not condition:
        raise ValueError


def unbase64(text: str, size: int | None = None) -> bytes:
    value = base64.b64decode(text, validate=True)
    need(base64.b64encode(value).decode() == text and size in (None, len(value)))
    return value


def members(found: Any, kind: str) -> Any:
    need(isinstance(found, dict) and set(found) <= MEMBERS[kind])
    return {name: value for name, value in found.items() if value is not None}


def field(value: bytes | str | int) -> bytes:
    if isinstance(value, int):
        value = value.to_bytes(8, "big", signed=True)
    value = value.encode() if isinstance(value, str) else value
    return len(value).to_bytes(4, "big") + value


def node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def below(count: int) -> int:
    """The largest power of two below a count."""
    return 1 << ((count - 1).bit_length() - 1)


def root_of(leaves: list[bytes]) -> bytes:
    if len(leaves) < 2:
        return leaves[0] if leaves else sha256(b"").digest()
    k = below(len(leaves))
    return node(root_of(leaves[:k]), root_of(leaves[k:]))


def payload_of(event: dict[str, Any]) -> bytes | None:
    need(len({"data", "base64", "commitment"} & set(event)) == 1)
    if "commitment" in event:
        return None
    return event["data"].encode() if "data" in event else unbase64(event["base64"])


def leaf_of(stream: dict[str, Any], event: dict[str, Any]) -> bytes:
    numbers = [event["seq"], event["version"], event.get("leaf", 0)]
    need(all(type(one) is int and 0 <= one < 2**53 for one in numbers))
    need(re.fullmatch(r"0|-?[1-9][0-9]*", event["time"]))
    payload = payload_of(event)
    if payload is None:
        commitment = unbase64(event["commitment"], 32)
    else:
        commitment = hmac.digest(unbase64(stream["salt"]), payload, "sha256")
    parts = (stream["stream"], event["seq"], int(event["time"]), event["type"], event["version"])
    return sha256(b"\0" + b"".join(map(field, (*parts, commitment)))).digest()


def check_stream(stream: dict[str, Any], indexed: dict[int, bytes]) -> bool:
    """Check a stream, note its leaves, and say whether it is complete."""
    events = [members(one, "event") for one in stream["events"]]
    leaves = [leaf_of(stream, event) for event in events]
    seqs = [event["seq"] for event in events]
    need(events and seqs[0] >= 1 and seqs == sorted(set(seqs)))
    last = events[-1]
    if any("leaf" not in event for event in events):
        need(["leaf" in event for event in events] == [False] * (len(events) - 1) + [True])
        need(last["type"] in ENDS and payload_of(last) is not None)
        end = json.loads(payload_of(last) or b"")
        need(end["events"] == len(events) - 1 and last["seq"] == len(events))
        need(unbase64(end["root"]) == root_of(leaves[:-1]))
    for event, leaf in zip(events, leaves, strict=True):
        if "leaf" in event:
            need(indexed.setdefault(event["leaf"], leaf) == leaf)
    one_statement = len(events) == 1 and last["type"] != "session.started"
    return seqs == list(range(1, len(seqs) + 1)) and (last["type"] in ENDS or one_statement)


def split_note(content: str) -> tuple[str, list[str]]:
    before, found, after = content.rpartition("\n\n")
    if not found or not after.startswith("\N{EM DASH} "):
        return content, []
    return before + "\n", after.removesuffix("\n").split("\n")


def check_tree(checkpoint: str, indexed: dict[int, bytes], path: list[bytes]) -> None:
    *lines, nothing = split_note(checkpoint)[0].split("\n")
    _, size, root, *_ = lines
    need(nothing == "" and all(lines))
    need(re.fullmatch("0|[1-9][0-9]*", size) and max(indexed) < int(size))

    def walk(begin: int, end: int) -> bytes:
        if not any(begin <= one < end for one in indexed):
            return path.pop(0)
        if end - begin == 1:
            return indexed[begin]
        middle = begin + below(end - begin)
        left = walk(begin, middle)
        return node(left, walk(middle, end))

    need(walk(0, int(size)) == unbase64(root, 32) and not path)


def check_signature(checkpoint: str, key: str) -> str:
    name, id_, value = key.split("+", 2)
    public = unbase64(value, 33)
    need(public[0] == 1 and sha256(f"{name}\n".encode() + public).digest()[:4].hex() == id_)
    text, lines = split_note(checkpoint)
    found = [line.split(" ") for line in lines]
    mine = [unbase64(sig) for _, who, sig in found if who == name]
    signed = [one[4:] for one in mine if one[:4].hex() == id_]
    for signature in signed:
        Ed25519PublicKey.from_public_bytes(public[1:]).verify(signature, text.encode())
    return "good" if signed else "wrong"


def check(content: str, key: str) -> dict[str, Any]:
    """What is to be said of a proof."""
    try:
        proof = members(json.loads(content), "proof")
        need(proof["format"] == "lllm-proof/1")
        indexed: dict[int, bytes] = {}
        streams = [members(one, "stream") for one in proof["streams"]]
        complete = {one["stream"]: check_stream(one, indexed) for one in streams}
        need(len(complete) == len(streams))
        check_tree(proof["checkpoint"], indexed, [unbase64(one, 32) for one in proof["path"]])
    except Exception:
        return {"events": "wrong"}
    try:
        signature = check_signature(proof["checkpoint"], key)
    except Exception:
        signature = "wrong"
    return {"events": "good", "complete": complete, "signature": signature}
