"""The test vectors of docs/proofs.md, kept in docs/proof-vectors.json.

    python -m tests.support.proof_vectors

writes them anew, with other salts and another key, which is thrown away. They are written once for
each version of the form: that today's code still reads the proofs of before is what is tested.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

from lllm import LogStore
from lllm.audit.keys import PrivateKey
from lllm.audit.proof import Proof
from lllm.audit.signed_note import sign_note
from lllm.events.backends.memory import MemoryBackend
from lllm.events.model import DialogOpened
from tests.support import ROOT
from tests.support.echo import echo

FILE = ROOT / "docs" / "proof-vectors.json"

Edit = Callable[[dict[str, Any]], object]


def of(proof: dict[str, Any], at: int, stream: int = 0) -> dict[str, Any]:
    """An event in a proof."""
    found: dict[str, Any] = proof["streams"][stream]["events"][at]
    return found


def _flip(text: str) -> str:
    """Another value in base64."""
    value = bytearray(base64.b64decode(text))
    value[0] ^= 1
    return base64.b64encode(value).decode()


def _move(proof: dict[str, Any]) -> None:
    events = proof["streams"][0]["events"]
    events[1], events[2] = events[2], events[1]


def _replace(name: str, old: str, new: str, at: int = 0) -> Edit:
    def edit(proof: dict[str, Any]) -> None:
        event = of(proof, at)
        assert old in event[name]
        event[name] = event[name].replace(old, new)

    return edit


# What makes a good proof of a session wrong.
WRONG: dict[str, Edit] = {
    "a payload that was changed": _replace("data", "the question", "the answer"),
    "a time that was changed": lambda proof: of(proof, 1).update(time="1795796512925826334"),
    "a type that was changed": lambda proof: of(proof, 1).update(type="tool.called"),
    "a version that was changed": lambda proof: of(proof, 1).update(version=2),
    "another session's name": lambda proof: proof["streams"][0].update(stream="another"),
    "another salt": lambda proof: proof["streams"][0].update(
        salt=_flip(proof["streams"][0]["salt"])
    ),
    "an event left out": lambda proof: proof["streams"][0]["events"].pop(1),
    "an event left out at the beginning": lambda proof: proof["streams"][0]["events"].pop(0),
    "an event put in": lambda proof: proof["streams"][0]["events"].insert(
        2, of(proof, 1) | {"seq": 3}
    ),
    "events in another order": _move,
    "the end left out": lambda proof: proof["streams"][0]["events"].pop(),
    "another leaf index": lambda proof: of(proof, -1).update(leaf=of(proof, -1)["leaf"] - 1),
    "a leaf index behind the log": lambda proof: of(proof, -1).update(leaf=10**6),
    "no leaf index at all": lambda proof: of(proof, -1).pop("leaf"),
    "a hash of the path that was changed": lambda proof: proof["path"].append(
        _flip(proof["path"].pop())
    ),
    "a path that is too short": lambda proof: proof["path"].pop(),
    "a path that is too long": lambda proof: proof["path"].append(proof["path"][0]),
    "a path in another order": lambda proof: proof["path"].reverse(),
    "a member that is none": lambda proof: proof.update(approved_by="somebody"),
    "a payload beside its commitment": lambda proof: of(proof, 0).update(commitment="AAAA"),
    "a stream without its salt": lambda proof: proof["streams"][0].pop("salt"),
    "a session without events": lambda proof: proof["streams"][0].update(events=[]),
    "base64 with bits left over": lambda proof: proof["path"].append(
        proof["path"].pop()[:-2] + "B="
    ),
    "a checkpoint of another size": lambda proof: proof.update(
        checkpoint=proof["checkpoint"].replace("\n", "\n1", 1)
    ),
    "another form": lambda proof: proof.update(format="lllm-proof/2"),
}


def vectors() -> list[dict[str, object]]:
    """All vectors."""
    key, other = (PrivateKey.generate("example.com/log") for _ in range(2))
    with LogStore(MemoryBackend()) as store:
        store.session("before").__enter__()
        with store.session("above", task="the question </script>", tags={"n": "ö"}) as above:
            above.stage(DialogOpened(dialog=1, agent="a", alias="main"))
            above.commit()
            echo(store)("below")
            above.stage(DialogOpened(dialog=2, agent="a", alias="\u2028\u202e"))
        store.tag(above.session_id, {"late": "yes"})
        running = store.session("running", task=1).__enter__()
        store.tag(running.session_id, {"late": "yes"})
        checkpoint = store.seal(key=key)
        echo(store)("after")
        made: dict[str, Proof] = {
            "a session": store.prove(above.session_id, checkpoint, key=key.public),
            "with those below it, and what is said of both": store.prove(
                above.session_id, checkpoint, children=True, related=True
            ),
            "redacted": store.prove(above.session_id, checkpoint, redacted=True, related=True),
            "one event": store.prove(above.session_id, checkpoint, event=2),
            "a session that runs": store.prove(running.session_id, checkpoint, related=True),
            "a log of one session": _alone(key),
        }
    found: list[dict[str, object]] = []

    def add(name: str, proof: str, complete: object, signature: str, using: PrivateKey) -> None:
        said = {"events": "wrong"} if complete is None else {
            "events": "good", "complete": complete, "signature": signature,
        }  # fmt: skip
        found.append({"name": name, "key": str(using.public), "says": said, "proof": proof})

    for name, proof in made.items():
        complete = {
            one.stream: name != "one event" and one.stream != running.session_id
            for one in proof.streams
        }
        add(name, proof.text(), complete, "good", key)
    whole = made["a session"]
    complete = {above.session_id: True}
    add("a session, and another key", whole.text(), complete, "wrong", other)
    plain = json.loads(whole.text())
    text = plain["checkpoint"].partition("\n\n")[0] + "\n"
    add("not signed", json.dumps(plain | {"checkpoint": text}), complete, "wrong", key)
    forged = sign_note(text, other).content()
    add("signed by another", json.dumps(plain | {"checkpoint": forged}), complete, "wrong", key)
    renamed = plain["checkpoint"].replace("example.com/log\n", "example.com/other\n", 1)
    add(
        "another name of the log", json.dumps(plain | {"checkpoint": renamed}), complete, "wrong",
        key,
    )  # fmt: skip
    for name, edit in WRONG.items():
        changed = json.loads(whole.text())
        edit(changed)
        add(name, json.dumps(changed), None, "", key)
    return found


def _alone(key: PrivateKey) -> Proof:
    """The proof of the only session of a log: its path is the leaf of its first event."""
    with LogStore(MemoryBackend()) as store:
        with store.session("alone", task=1) as alone:
            pass
        return store.prove(alone.session_id, store.seal(key=key))


if __name__ == "__main__":
    FILE.write_text(json.dumps(vectors(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
