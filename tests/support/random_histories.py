"""Random histories of a store."""

from __future__ import annotations

import random

from lllm import LogStore
from lllm.events.model import Usage
from tests.support.histories import Attempt, History, Session


def write(store: LogStore, chance: random.Random) -> None:
    """A random history: sessions in each other, calls that fail, tags, errors, ends that come in
    any order or not at all."""
    history = History(store)
    running: list[Session] = []
    for _ in range(chance.randrange(4, 14)):
        what = chance.random()
        if what < 0.4 or not running:
            parent = chance.choice([None, *running])
            tags = {"env": chance.choice("xy")} if chance.random() < 0.5 else {}
            partition = chance.choice(["", "acme"])
            running.append(history.start(chance.choice(["a", "p::b"]), partition, tags, parent))
        elif what < 0.7:
            used = Usage(input=chance.randrange(99), output=chance.randrange(99))
            history.attempt(
                chance.choice(running),
                Attempt(
                    model=chance.choice(["m1", "m2"]),
                    agent="one",
                    nanos=chance.choice([None, chance.randrange(10**9)]),
                    failed=chance.random() < 0.3,
                    usage=used,
                    refused=chance.random() < 0.2,
                ),
            )
        elif what < 0.8:
            history.tag(chance.choice(history.sessions), {"env": chance.choice("xz")}, ())
        elif what < 0.85:
            store.save_error(ValueError("outside of any session"))
        else:
            running.sort(key=lambda session: len(session.chain))
            history.finish(running.pop(), chance.random() < 0.7)
