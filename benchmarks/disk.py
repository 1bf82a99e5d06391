"""What recording in full takes on disk, held against what was said.

Sessions of fifty turns are run by the runtime itself: in each turn the model says something and
calls a tool, and the tool answers; at the end it answers. The content is every text that was
exchanged, each counted once. The log's bytes are those of the JSONL files, or of the table of
events with its index, packed as VACUUM would; rows, which can be made anew, are not counted.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import msgspec

from benchmarks.generated_texts import text_of
from benchmarks.measure import Bar, Figure, Spread
from lllm import LocalFileBackend, LogStore, SQLiteBackend, Tactic, tool
from lllm.events import codec
from lllm.events.log import LogBackend
from lllm.events.model import AgentDefined, Content, LLMRequested, Part, ToolCall, Usage
from lllm.invokers import Answer, Request
from lllm.invokers.scripted import Reply, ScriptedInvoker

AREA = "disk"
TURNS = 50
_EARLY = 5  # the turn that the last is compared with
_SIZES = (500, 3_000, 20_000)  # bytes of a message
_LARGE = 3_000  # from which the log is held against the content, not against the events
_SYSTEM = "You look orders up, one after another, and say what you found."
_TIMES_CONTENT = Bar(1.9, "at most")
_BYTES_AN_EVENT = Bar(500, "at most")


_USAGE = Usage(input=2_400, output=131, cache_read=2_304)
# All that OpenAI sends (https://platform.openai.com/docs/api-reference/chat/object).
_ANSWER = Answer(
    content=Content("assistant"),
    finish="tool_calls",
    model="gpt-4o-mini-2024-07-18",
    response_id="chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
    request_id="req_0a1b2c3d4e5f60718293a4b5c6d7e8f9",
    service_tier="default",
    fingerprint="fp_44added55e",
    usage=_USAGE,
    usage_raw={
        "prompt_tokens": _USAGE.input,
        "completion_tokens": _USAGE.output,
        "total_tokens": _USAGE.input + _USAGE.output,
        "prompt_tokens_details": {"cached_tokens": _USAGE.cache_read, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    },
)
_BESIDE_BYTES = len(codec.encode(_ANSWER))


class _Talk:
    """A model and a tool that say something new each time, and what they said.

    The lengths vary as people's do, so that pages are filled as in any log, and come again so that
    an early turn can be compared with a late one.
    """

    def __init__(self, size: int) -> None:
        self.said = [_SYSTEM]
        self.beside = 0  # bytes of ids and usage that the model sent with its texts
        self._chance = random.Random(size)
        self._lengths = [int(size * self._chance.uniform(0.5, 1.5)) for _ in range(TURNS - _EARLY)]

    def text(self, turn: int) -> str:
        """A message of this turn."""
        text = text_of(self._chance, self._lengths[turn % len(self._lengths)])
        self.said.append(text)
        return text

    def answer(self, request: Request) -> Reply:
        """What the model says: a text and a wish for the tool, and in the end a text."""
        turn = sum(message.role == "tool" for message in request.messages) + 1
        if turn > TURNS:
            return self._answer(turn, ())
        arguments = f'{{"turn": {turn}}}'
        self.said.append(arguments)
        return self._answer(turn, (ToolCall(f"call_{turn:024}", "look_up", arguments),))

    def _answer(self, turn: int, calls: tuple[ToolCall, ...]) -> Answer:
        content = Content("assistant", (Part("text", self.text(turn)),), calls)
        answer = msgspec.structs.replace(_ANSWER, content=content)
        self.beside += _BESIDE_BYTES
        return answer if calls else msgspec.structs.replace(answer, finish="stop")

    def run(self, log: LogBackend, sessions: int) -> None:
        """Record so many sessions."""

        @tool(description="Look an order up.")
        def look_up(turn: int) -> str:
            return self.text(turn)

        config = {
            "global": {"model_name": "gpt-4o-mini", "invoker": ScriptedInvoker(self.answer)},
            "agent_configs": [
                {
                    "name": "clerk",
                    "system_prompt": _SYSTEM,
                    "tools": [look_up],
                    "max_interrupt_steps": TURNS + 1,
                },
            ],
        }
        with LogStore(log) as store:
            tactic = _Clerk(config, log_store=store)
            for _ in range(sessions):
                tactic(self.text(0))


class _Clerk(Tactic, register=False):
    name = "clerk"
    agent_group = ("clerk",)

    def call(self, task: object, **_: object) -> object:
        agent = self.agents["clerk"]
        agent.open("main")
        agent.receive(str(task))
        agent.respond()
        return None  # what was said last is in the dialog


def figures(folder: Path, *, quick: bool) -> Iterator[Figure]:
    """All that is measured of the log's size."""
    folder.mkdir()
    sessions = 5 if quick else 20
    for size in _SIZES:
        yield from _recorded(folder / f"{size}", size, sessions)
    yield _definitions(folder / "definitions.db", 200 if quick else 10_000)


def _recorded(folder: Path, size: int, sessions: int) -> Iterator[Figure]:
    folder.mkdir()
    for kind in ("SQLite", "JSONL"):
        path = folder / kind
        talk = _Talk(size)
        talk.run(_opened(path), sessions)
        with closing(_opened(path)) as log:
            events = sum(1 for _ in log.read())
            turns = list(_turns(log)) if kind == "JSONL" else []
        stored = _bytes_of(path)
        yield _size(kind, size, talk, stored, events, sessions)
        if turns:
            yield Figure(
                AREA, f"turn {TURNS} to turn {_EARLY}, messages of {size:,} B",
                Spread.of(turn[TURNS] / turn[_EARLY] for turn in turns), "x",
                f"{turns[0][_EARLY]:,} B", Bar(1.1, "at most"),
            )  # fmt: skip


def _size(kind: str, size: int, talk: _Talk, stored: int, events: int, sessions: int) -> Figure:
    content = sum(len(text.encode()) for text in set(talk.said))
    beside = (
        f"{stored // sessions:,} B for {content // sessions:,} B in {events // sessions} events"
    )
    what = f"{TURNS} turns to {kind}, messages of {size:,} B"
    if size >= _LARGE:
        times = stored / content
        return Figure(AREA, what, Spread(times, times, times), "x content", beside, _TIMES_CONTENT)
    more = (stored - content) / events
    beside += f"; {talk.beside / events:.0f} B/event are the provider's ids and usage"
    return Figure(
        AREA, f"{what}: beyond them", Spread(more, more, more), "B/event", beside, _BYTES_AN_EVENT
    )


def _opened(path: Path) -> LogBackend:
    return SQLiteBackend(path) if path.name == "SQLite" else LocalFileBackend(path)


def _bytes_of(path: Path) -> int:
    if path.is_dir():
        return sum(file.stat().st_size for file in path.glob("*.jsonl"))
    return _packed(path, "events") - _packed(path, "events WHERE false")


def _packed(path: Path, events: str) -> int:
    """The size of a log in which nothing but these events stands."""
    packed = path.with_name("packed.db")
    SQLiteBackend(packed).close()
    with closing(sqlite3.connect(packed)) as connection:
        connection.execute("ATTACH ? AS log", (str(path),))
        connection.execute(f"INSERT INTO events SELECT * FROM log.{events}")
        connection.commit()
        connection.execute("VACUUM")
    size = packed.stat().st_size
    packed.unlink()
    return size


def _turns(log: LogBackend) -> Iterator[dict[int, int]]:
    """The bytes of each turn, session by session: in a JSONL log a position is the byte where the
    event's line ends."""
    begins: list[tuple[int, int]] = []  # turn, where it begins
    for event, following in pairwise(log.read()):
        payload = codec.decode(following)
        if not isinstance(payload, LLMRequested):
            continue
        if payload.step == 1 and begins:
            yield _lengths(begins)
            begins = []
        begins.append((payload.step, event.position))
    yield _lengths(begins)


def _lengths(begins: Sequence[tuple[int, int]]) -> dict[int, int]:
    return {turn: end - begin for (turn, begin), (_, end) in pairwise(begins)}


def _definitions(path: Path, sessions: int) -> Figure:
    """How often a definition is stored that many sessions use, of several stores."""
    reopened = 10
    talk = _Brief(1)
    for _ in range(reopened):
        talk.run(SQLiteBackend(path), sessions // reopened)
    with closing(SQLiteBackend(path)) as log:
        stored = sum(event.type == AgentDefined.type for event in log.read())
    return Figure(
        AREA, f"one agent's definition, used by {sessions:,} sessions", Spread.of([stored]),
        "times stored", "", Bar(1, "at most"),
    )  # fmt: skip


class _Brief(_Talk):
    """The same, answered at once."""

    def answer(self, request: Request) -> Reply:  # noqa: ARG002 - as the script must be
        return self._answer(1, ())
