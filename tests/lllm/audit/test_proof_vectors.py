"""The test vectors of docs/proofs.md, checked by lllm and by a stranger."""

from __future__ import annotations

import json
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
