"""What a search costs, and the index that it needs.

The texts are of a vocabulary whose words are as unequal as those of people: the most frequent one
is in nearly every message, most are in few. An index of few words would be smaller than any real
one. Each session has a task and an answer of about 400 bytes.
"""

from __future__ import annotations

import itertools
import random
import sqlite3
import string
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from benchmarks.generated_tags import Tagger
from benchmarks.measure import Bar, Figure, Spread, in_rounds, milliseconds
from lllm import LogStore, SQLiteBackend
from lllm.events import codec
from lllm.events.digest import seal
from lllm.events.envelope import NewEvent
from lllm.events.ids import new_id, new_salt
from lllm.events.model import (
    Content,
    Event,
    LLMResponded,
    MessageAdded,
    Price,
    SessionStarted,
    SessionSucceeded,
)

AREA = "search"
_BYTES = 400  # of a message
_WORDS, _TEXTS = 50_000, 20_000  # of the vocabulary, and made of it
_USUAL, _FEW = 8, 2  # messages of a session
_RARE = "zanzibar"
_RARE_SESSIONS = 5
_COMMON = (3, 10)  # the places of two words in the vocabulary, of which 24 % of messages have both
_AT_ONCE = 30_000  # messages of one transaction
_APPENDED = 5_000  # events appended at once
_PRICE = Price("unpriced", reason="nobody asked")


class _Texts:
    """Texts of words as unequal as those of people (Zipf's law)."""

    def __init__(self, chance: random.Random) -> None:
        letters = string.ascii_lowercase
        lengths = chance.choices(range(2, 12), k=_WORDS)
        self.words = ["".join(chance.choices(letters, k=length)) for length in lengths]
        weights = list(itertools.accumulate(1 / (place + 3) for place in range(_WORDS)))
        self._texts = [self._text(chance, weights) for _ in range(_TEXTS)]
        self._next = itertools.cycle(self._texts)

    def _text(self, chance: random.Random, weights: Sequence[float]) -> str:
        return " ".join(chance.choices(self.words, cum_weights=weights, k=_BYTES // 6))[:_BYTES]

    def one(self) -> str:
        """The next text."""
        return next(self._next)


def figures(folder: Path, sessions: int, *, quick: bool) -> Iterator[Figure]:
    """The index of a store, and what is asked of one with so many sessions."""
    folder.mkdir()
    chance = random.Random(1)
    texts, tagger = _Texts(chance), Tagger(chance)
    with _store(folder / "usual.db", max(sessions // 20, 2_000), texts, tagger, _USUAL) as store:
        yield from _of_building(store)
        yield from _of_catching_up(store, texts, tagger, 50 if quick else 300)
    with _store(folder / "many.db", sessions, texts, tagger, _FEW) as store:
        store.rebuild(search=True)
        yield from _of_searches(store, texts, sessions, 5 if quick else 30)


def _store(path: Path, sessions: int, texts: _Texts, tagger: Tagger, messages: int) -> LogStore:
    """A store without an index."""
    log = SQLiteBackend(path)
    store = LogStore(log)
    store.rebuild(search=False)
    waiting: list[NewEvent] = []
    rare = {sessions * number // _RARE_SESSIONS for number in range(_RARE_SESSIONS)}
    for number in range(sessions):
        said = [texts.one() for _ in range(messages)]
        if number in rare:
            said[0] += f" {_RARE}"
        waiting += _session(said, tagger)
        if len(waiting) >= _APPENDED:
            log.append(waiting)
            waiting = []
    log.append(waiting)
    store.list_sessions(limit=1)
    return store


def _session(said: Sequence[str], tagger: Tagger) -> Iterator[NewEvent]:
    stream, salt = new_id(), new_salt()
    events: list[Event] = [
        SessionStarted(tactic_path="shop::analyzer", name="analyzer", tags=tagger.tags(), salt=salt)
    ]
    for number, text in enumerate(said, 1):
        if number % 2:
            content = Content.of("user", text)
            events.append(MessageAdded(message=number, dialog=1, content=content, why="user"))
        else:
            content = Content.of("assistant", text)
            events.append(
                LLMResponded(
                    request=number, message=number, content=content, finish="stop", asked="m",
                    model="m", price=_PRICE, elapsed=1,
                )
            )  # fmt: skip
    events.append(SessionSucceeded(elapsed=1))
    for seq, event in enumerate(events, 1):
        data = codec.encode(event)
        yield seal(salt, stream, seq, time.time_ns(), event.type, event.version, data)


def _of_building(store: LogStore) -> Iterator[Figure]:
    before = _pages(store)
    began, used = time.perf_counter(), time.process_time()
    store.rebuild(search=True)
    took, used = time.perf_counter() - began, time.process_time() - used
    with closing(store.database()) as rows:
        messages, tags = (
            rows.execute(f"SELECT count(*) FROM messages WHERE role {which} 1").fetchone()[0]
            for which in ("<>", "=")
        )
    yield Figure(
        AREA, f"building the index of {messages:,} messages and {tags:,} rows of tags",
        Spread.of([messages / took]), "messages/s", f"{took:.1f} s, {used:.1f} s CPU",
        Bar(40_000, "at least"),
    )  # fmt: skip
    yield _of_fts5_alone(store)
    size = (_pages(store) - before) / (messages * _BYTES)
    yield Figure(
        AREA, "the index and its rows, of the bytes of the texts", Spread.of([size * 100]), "%",
        bar=Bar(60, "at most"),
    )  # fmt: skip


def _of_fts5_alone(store: LogStore) -> Figure:
    """What SQLite takes for the words of the same messages, without reading and decoding them."""
    texts = [
        (event.position, content.text)
        for event in store.backend.read()
        if (content := getattr(codec.decode(event), "content", None)) is not None
    ]
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(sqlite3.connect(f"{folder}/alone.db", isolation_level=None)) as alone,
    ):
        alone.execute("PRAGMA journal_mode=WAL")
        alone.execute("PRAGMA synchronous=NORMAL")
        alone.execute("CREATE VIRTUAL TABLE words USING fts5(text, content='')")
        for setting, value in (("automerge", 0), ("crisismerge", 64), ("hashsize", 16 << 20)):
            alone.execute("INSERT INTO words (words, rank) VALUES (?, ?)", (setting, value))
        began, used = time.perf_counter(), time.process_time()
        for start in range(0, len(texts), _AT_ONCE):
            alone.execute("BEGIN")
            some = texts[start : start + _AT_ONCE]
            alone.executemany("INSERT INTO words (rowid, text) VALUES (?, ?)", some)
            alone.execute("COMMIT")
        alone.execute("INSERT INTO words (words) VALUES ('optimize')")
        took, used = time.perf_counter() - began, time.process_time() - used
    return Figure(
        AREA, "FTS5 alone, inserting and merging the words of these messages",
        Spread.of([len(texts) / took]), "messages/s", f"{took:.1f} s, {used:.1f} s CPU",
    )  # fmt: skip


def _pages(store: LogStore) -> int:
    """The bytes of the file that are in use."""
    with closing(store.database()) as rows:
        used, free, size = (
            rows.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
    return int((used - free) * size)


def _of_searches(store: LogStore, texts: _Texts, sessions: int, rounds: int) -> Iterator[Figure]:
    common = " ".join(texts.words[place] for place in _COMMON)
    phrase = '"' + " ".join(texts.one().split()[:2]) + '"'
    asked = {
        "one rare word": (lambda: store.search(_RARE), Bar(30, "at most")),
        "two common words, newest first": (lambda: store.search(common), Bar(150, "at most")),
        "two common words, by relevance": (
            lambda: store.search(common, sort="relevance"), None,
        ),
        "two common words, a tag of 80 %": (
            lambda: store.search(common, tags={"env": "prod"}), None,
        ),
        "two common words, a tag that none has": (
            lambda: store.search(common, tags={"env": "none"}), None,
        ),
        "a phrase": (lambda: store.search(phrase), None),
        "a prefix": (lambda: store.search(f"{_RARE[:4]}*"), None),
        "a prefix of two letters": (lambda: store.search(f"{_RARE[:2]}*"), None),
    }  # fmt: skip
    taken = in_rounds({name: ask for name, (ask, _) in asked.items()}, rounds, warm_up=1)
    for name, times in taken.items():
        ask, bar = asked[name]
        found = len(ask())
        what = f"search in {sessions:,} sessions: {name} ({found} shown)"
        yield Figure(AREA, what, milliseconds(times), "ms", bar=bar)


def _of_catching_up(
    store: LogStore, texts: _Texts, tagger: Tagger, rounds: int
) -> Iterator[Figure]:
    rows, log = store._rows, store.backend
    assert isinstance(log, SQLiteBackend)

    def add_one() -> None:
        log.append(list(_session([texts.one() for _ in range(_USUAL)], tagger)))

    def measured() -> Spread:
        add_one()
        taken = in_rounds({"one": rows.catch_up}, rounds, between=add_one)["one"]
        return milliseconds(taken)

    with_search = measured()
    store.rebuild(search=False)
    without = measured()
    yield Figure(
        AREA, "catching up with one session, with the index", with_search, "ms",
        f"without {without.median:.2f} ms", Bar(0.8, "at most"),
    )  # fmt: skip
