"""The work that lllm and its peers are all given: one session, and messages for a log of events.

It is plain JSON, sent to each worker as it starts, so that all of them store the same content.
"""

from __future__ import annotations

from itertools import islice
from typing import Literal, TypedDict

import msgspec

from benchmarks.peers.session import AGENT, TACTIC, TAGS, moments, texts
from lllm.events import codec
from lllm.events.model import Content, Event, MessageAdded

USERS = 100  # values of the third tag, each session has the next one
MESSAGES = 100  # different ones
_OPENS = {"session.started", "agent.started", "llm.requested", "tool.called"}
_CLOSES = {"session.succeeded", "agent.succeeded", "llm.responded", "llm.failed", "tool.returned"}

Fields = dict[str, object]
Span = Literal["opens", "closes", "within"]


class Happening(TypedDict):
    """One event: its type, its fields as JSON values, and what it is where there are only spans."""

    type: str
    span: Span
    fields: Fields


class Work(TypedDict):
    """What a worker is given.

    session: its events, those of one moment together; the first begins the session, the last ends
    it. definition: of its agents. sessions: how many a store holds that is searched. users: how
    many values its third tag, `user`, goes through. scanned: how many events a log holds that is
    read. messages: the fields of one event each.
    """

    tactic: str
    tags: dict[str, str]
    definition: Fields
    session: list[list[Happening]]
    sessions: int
    users: int
    scanned: int
    messages: list[Fields]


def work(*, sessions: int, scanned: int) -> Work:
    """The same at every call; see Work."""
    return Work(
        tactic=TACTIC,
        tags=TAGS,
        definition=_fields(AGENT),
        session=[[_happening(event) for event in moment] for moment in moments()],
        sessions=sessions,
        users=USERS,
        scanned=scanned,
        messages=[
            _fields(MessageAdded(message=1, dialog=1, content=Content.of("user", text), why="user"))
            for text in islice(texts(2), MESSAGES)
        ],
    )


def _happening(event: Event) -> Happening:
    span: Span = "within"
    if event.type in _OPENS:
        span = "opens"
    elif event.type in _CLOSES:
        span = "closes"
    return Happening(type=event.type, span=span, fields=_fields(event))


def _fields(event: Event) -> Fields:
    return msgspec.json.decode(codec.encode(event), type=Fields)
