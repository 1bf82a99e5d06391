"""The test vectors of docs/proofs.md, checked by lllm and by a stranger."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from lllm.audit.check_proof import check_proof
from lllm.audit.keys import PublicKey
from lllm.audit.proof import parse_proof
from lllm.events.errors import AuditError
from tests.lllm.audit import second_verifier
from tests.support.proof_vectors import FILE, WRONG

VECTORS: list[dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))
EACH = pytest.mark.parametrize("vector", VECTORS, ids=[one["name"] for one in VECTORS])


def said_of(proof: str, key: str) -> dict[str, object]:
    """What lllm says of a proof, as the vectors have it."""
    try:
        checked = check_proof(parse_proof(proof.encode()), [PublicKey.parse(key)])
    except AuditError:
        return {"events": "wrong"}
    if checked.verdict == "wrong":
        return {"events": "wrong"}
    complete = {one.stream: one.complete for one in checked.streams}
    return {"events": checked.verdict, "complete": complete, "signature": checked.signature}


@EACH
def test_lllm(vector: dict[str, Any]) -> None:
    """What lllm says is what the vector says."""
    assert said_of(vector["proof"], vector["key"]) == vector["says"]


@EACH
def test_a_second_verifier(vector: dict[str, Any]) -> None:
    """It was written from the guide alone."""
    assert second_verifier.check(vector["proof"], vector["key"]) == vector["says"]


def test_the_vectors_are_those_that_are_made() -> None:
    """Each way to make a proof wrong has a vector; the second verifier is short."""
    names = [one["name"] for one in VECTORS]
    assert set(WRONG) < set(names)
    assert len(names) == len(set(names))
    source = second_verifier.__file__
    with open(source, encoding="utf-8") as file:
        assert len(file.readlines()) < 170


def test_every_byte_of_a_proof_counts() -> None:
    """Whatever single character of what is proven is another one, it is no longer good."""
    proof, key = VECTORS[0]["proof"], VECTORS[0]["key"]
    own_key = range(proof.index('"key": "'), proof.index('"streams"'))  # proves nothing
    salt_end = proof.index('", "events"') - 1  # HMAC knows no zero at the end of a key
    for at in range(proof.index('"checkpoint"'), len(proof), 5):
        if proof[at].isspace() or at in own_key or at == salt_end:
            continue
        changed = proof[:at] + ("A" if proof[at] != "A" else "B") + proof[at + 1 :]
        said = said_of(changed, key)
        passes = said["events"] == "good" and said["signature"] == "good"
        assert not passes, (at, proof[at - 30 : at + 5])


ODD: list[object] = [None, True, 0, -1, 2**53, 2**70, 1.5, "", "x", "\ud800", [], [0], {}, {"a": 1}]


def places(value: object, path: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:
    """The way to each value in JSON."""
    if path:
        yield path
    members = value.items() if isinstance(value, dict) else enumerate(value)  # type: ignore[arg-type]
    for name, member in members:
        if isinstance(member, dict | list):
            yield from places(member, (*path, name))
        else:
            yield (*path, name)


def test_anything_anywhere_in_a_proof() -> None:
    """No value that somebody puts into a file makes an error of ours; and what proves nothing is
    all that may be another one."""
    proof, key = VECTORS[0]["proof"], VECTORS[0]["key"]
    for path in places(json.loads(proof)):
        for odd in ODD:
            changed = json.loads(proof)
            inner = changed
            for name in path[:-1]:
                inner = inner[name]
            if odd == inner[path[-1]]:
                continue
            inner[path[-1]] = odd
            content = json.dumps(changed).encode("utf-8", "surrogatepass")
            try:
                checked = check_proof(parse_proof(content), [PublicKey.parse(key)])
            except AuditError:
                continue
            if path[0] not in ("how", "key"):
                assert "wrong" in (checked.verdict, checked.signature), (path, odd)
            check_proof(parse_proof(content))
