"""`LogStore.search`: messages by their words, against a reader who goes through all events."""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import cache
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from lllm import LocalFileBackend, LogStore, SearchQueryError, SQLiteBackend
from lllm.events import codec
from lllm.events.model import (
    Content,
    Error,
    LLMFailed,
    LLMResponded,
    MessageAdded,
    Part,
    Price,
    SessionFailed,
    SessionStarted,
    SessionTagged,
    ToolCall,
    ToolReturned,
)
from lllm.projections.engine import projector, rebuild
from lllm.projections.queries import search as queries
from lllm.search.hits import SEARCH_SORTS
from tests.support.histories import History
from tests.support.search_stores import ENGINES, new_store

WORDS = ("refund", "Kettle", "café", "ÉCLAIR", "naïve", "x_1", "order-7731", "日本語", "テスト",
         "手机iPhone", "환불을", "ไทยแลนด์", "हिन्दी", "ß", "don't", "—", "🙂", "A")  # fmt: skip
TEXTS = st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join)


# -- a reader who knows no index


def canonical(text: str) -> str:
    """Each word between bars, without case and accents; runs of scripts without spaces in angles,
    where any part of a run may be found."""
    plain = "".join(
        char
        for char in unicodedata.normalize("NFKD", text.casefold())
        if not 0x300 <= ord(char) < 0x370
    )
    plain = unicodedata.normalize("NFC", plain).casefold()
    out = []
    for char in plain:
        if unicodedata.category(char)[0] not in "LNM":
            out.append(" ")
        elif re.match("[\u0e00-\u0eff\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7ff]", char):
            out.append(f"\x01{char}\x01")
        else:
            out.append(char)
    joined = "".join(out).replace("\x01\x01", "")
    return "".join(f"|{word}|" for word in re.split("[ \x01]+", joined) if word)


def has(text: str, word: str) -> bool:
    """Whether a text has the words of a word or phrase next to each other."""
    wanted, there = canonical(word), canonical(text)
    runs = "[\u0e00-\u0eff\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7ff]"
    pattern = re.escape(wanted)
    if re.match(rf"\|{runs}", wanted):
        pattern = pattern.removeprefix(r"\|")
    if re.search(rf"{runs}\|$", wanted):
        pattern = pattern.removesuffix(r"\|")
    return re.search(pattern, there) is not None


def texts_in(store: LogStore) -> Iterator[tuple[str, str]]:
    """The session and text of everything that was said."""
    for event in store.log.read():
        payload = codec.decode(event)
        if isinstance(payload, MessageAdded):
            yield event.stream, payload.content.text
        elif isinstance(payload, SessionStarted):
            yield event.stream, str(payload.task or "")
            yield event.stream, "\n".join(f"{k}={v}" for k, v in payload.tags.items())
        elif isinstance(payload, SessionTagged):
            yield payload.about, "\n".join(f"{k}={v}" for k, v in payload.set.items())


SAID = st.lists(st.lists(TEXTS, max_size=4), min_size=1, max_size=5)
SOUGHT = st.lists(st.sampled_from([w for w in WORDS if w not in "—🙂"]), min_size=1, max_size=3)


@settings(deadline=None, max_examples=15)
@given(texts=SAID, words=SOUGHT, size=st.sampled_from([1, 3, 400]))
def test_a_search_finds_what_a_reader_finds(
    texts: list[list[str]], words: list[str], size: int
) -> None:
    """Words in any script, whole or as parts of runs, whatever batches the index was made in."""
    find_what_a_reader_finds("sqlite", texts, words, size)


@pytest.mark.slow
@settings(deadline=None, max_examples=6, phases=[Phase.generate])
@given(texts=SAID, words=SOUGHT, size=st.sampled_from([1, 3, 400]))
def test_a_search_in_postgres_finds_it_too(
    texts: list[list[str]], words: list[str], size: int
) -> None:
    """The same, where PostgreSQL keeps the index."""
    find_what_a_reader_finds("postgres", texts, words, size)


def find_what_a_reader_finds(
    engine: str, texts: list[list[str]], words: list[str], size: int
) -> None:
    """Search a store for words, and read all of it for them."""
    with pytest.MonkeyPatch.context() as patched, new_store(engine) as store:
        patched.setattr(projector, "BATCH", size)
        patched.setattr(rebuild, "_BATCH", size)
        assert store.search("refund") == []  # rows in memory get an index when it is asked for
        history = History(store)
        for messages in texts:
            session = history.start("p::t", "", {"word": messages[0] if messages else ""}, None)
            for message in messages:
                history.say(session, message)
                store.search("x")
        said = list(texts_in(store))
        found = {(hit.session_id) for hit in store.search(" ".join(words), limit=None)}
        assert found == {s for s, text in said if all(has(text, word) for word in words)}
        found = {hit.session_id for hit in store.search(" OR ".join(words), limit=None)}
        assert found == {s for s, text in said if any(has(text, word) for word in words)}
        if len(words) > 1:
            hits = store.search(f"{words[0]} NOT {words[1]}", limit=None)
            assert {hit.session_id for hit in hits} == {
                s for s, text in said if has(text, words[0]) and not has(text, words[1])
            }
        for hit in store.search(" AND ".join(words), limit=None):
            shown = [hit.snippet[start:end] for start, end in hit.matches]
            assert all(any(has(part, word) for part in shown) for word in words), hit
        assert store.rebuild(check=True).difference is None
        before = store.search(words[0], limit=None)
        store.rebuild()
        assert store.search(words[0], limit=None) == before


# -- what a query says


@pytest.fixture(params=ENGINES, scope="module")
def said(request: pytest.FixtureRequest) -> Iterator[LogStore]:
    """A store in which a few things were said."""
    with new_store(request.param) as store:
        history = History(store)
        for text in ("late delivery of the kettle", "delivery late", "refunds", "the REFUND", "?"):
            history.say(history.start("p::t", "", {}, None), text)
        yield store


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("late", ["delivery late", "late delivery of the kettle"]),
        ("delivery late", ["delivery late", "late delivery of the kettle"]),
        ('"late delivery"', ["late delivery of the kettle"]),
        ('"late deli"*', ["late delivery of the kettle"]),
        ("refund", ["the REFUND"]),
        ("refund*", ["the REFUND", "refunds"]),
        ("the NOT refund", ["late delivery of the kettle"]),
        ("the -refund", ["the REFUND"]),  # a hyphen is no operator
        ("kettle OR refund the", ["the REFUND", "late delivery of the kettle"]),
        ("(kettle OR refund) the", ["the REFUND", "late delivery of the kettle"]),
        ("(kettle OR refunds) AND late", ["late delivery of the kettle"]),
        ("or", []),  # only in capitals it is an operator
        ("text:refund", []),  # no column of FTS5
        ("NEAR(late delivery)", []),
        ("'; DROP TABLE sessions; --", []),
        ("if late == delivery:", []),
        ("late == delivery:", ["delivery late", "late delivery of the kettle"]),
        ("^late", ["delivery late", "late delivery of the kettle"]),
        ("\x00late\x00", ["delivery late", "late delivery of the kettle"]),
        ("\udc80late", ["delivery late", "late delivery of the kettle"]),
    ],
)
def test_a_query_means(said: LogStore, query: str, found: list[str]) -> None:
    """Words are joined by AND, OR and NOT; nothing else in them is taken for more than words."""
    assert [hit.snippet for hit in said.search(query)] == found
    assert len(said.list_sessions()) == 5


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", "The query has no letter or digit"),
        (" -> ", "The query has no letter or digit"),
        ("(late", "'(' at character 1 opens a parenthesis that is not closed"),
        ("late)", "')' at character 5 closes a parenthesis that is not open"),
        ("()", "'(' at character 1 opens a parenthesis with nothing in it"),
        ("late AND", "'AND' at character 6 needs a word behind it"),
        ("AND late", "'AND' at character 1 needs a word before it"),
        ("late OR OR x", "'OR' at character 6 needs a word behind it"),
        ("NOT late", "'NOT' at character 1 needs something before it"),
        ("late OR NOT x", "'NOT' at character 9 needs something before it"),
        ('late "x', "'\"' at character 6 opens a quotation that is not closed"),
        ('""', "'\"\"' at character 1 has no letter or digit"),
        ("late AND ->", "'AND' at character 6 needs a word behind it"),
        ("a*b", "'*' at character 2 stands inside a word"),
        ("l*", "'l*' at character 1 begins too many words"),
        ("*", "The query has no letter or digit"),
        ("(" * 17 + "x" + ")" * 17, "is more than 16 parentheses deep"),
        ("x " * 65, "more than 64 words and phrases"),
        ("x" * 2_001, "2,001 characters; 2,000 are allowed"),
    ],
)
def test_a_query_that_cant_be_read(said: LogStore, query: str, message: str) -> None:
    """The message says what is wrong with a query, and where."""
    with pytest.raises(SearchQueryError) as caught:
        said.search(query)
    assert message in str(caught.value)


@pytest.mark.parametrize("engine", ENGINES)
@settings(deadline=None, max_examples=60)
@given(st.text(alphabet=" ()\"*ANDORT-:^'{}+\x00é日", max_size=12))
def test_any_text_is_a_query_or_an_error_of_ours(engine: str, text: str) -> None:
    """No text of a user reaches SQLite or PostgreSQL as anything but words."""
    store = _shared_store(engine)
    with suppress(SearchQueryError):
        store.search(text)


@cache
def _shared_store(engine: str) -> LogStore:
    store = new_store(engine)
    (history := History(store)).say(history.start("p::t", "", {}, None), "A D T O é日")
    return store


# -- what is searched


@pytest.mark.parametrize("engine", ENGINES)
def test_every_text_is_found_with_its_role(engine: str) -> None:
    """Messages, reasoning, calls and results of tools, errors, tasks and tags."""
    with new_store(engine) as store:
        history = History(store)
        session = history.start("p::t", "acme", {"env": "prod"}, None)
        recorder = session.recorder
        history.say(session, "Be polite.", "system")
        history.say(session, "Where is it?")
        answer = Content(
            "assistant",
            (Part("reasoning", "thinking hard"), Part("text", "I look.")),
            (ToolCall("c1", "find_order", '{"caf\\u00e9":"line\\nbroken","n":[7731]}'),),
        )
        price = Price("unpriced", reason="nobody knows")
        recorder.stage(
            LLMResponded(request=1, message=3, content=answer, finish="stop", asked="m", model="m",
                         price=price, elapsed=1),
            ToolReturned(tool=1, message=4, content=Content.of("tool", "shipped"), elapsed=1),
            LLMFailed(request=2, asked="m", error=Error("E", "overloaded", code="busy"),
                      partial=Content.of("assistant", "It wa"), elapsed=1),
            SessionFailed(error=Error("x.Broken", "gave up"), elapsed=1),
        )  # fmt: skip
        recorder.commit()
        store.tag(session.id, {"verdict": "wrong"})
        error = store.save_error(ValueError("outside"), context={"job": "nightly"})
        found = {
            query: [(hit.role, hit.message, hit.session_id) for hit in store.search(query)]
            for query in ("polite", "where", "thinking", "find_order", "cafe", "broken", "7731",
                          "shipped", "overloaded busy", "wa", "gave", "env=prod", "verdict",
                          "outside", "nightly")
        }  # fmt: skip
    mine = session.id
    assert found == {
        "polite": [("system", 1, mine)],
        "where": [("user", 2, mine)],
        "thinking": [("assistant", 3, mine)],
        "find_order": [("assistant", 3, mine)],
        "cafe": [("assistant", 3, mine)],
        "broken": [("error", None, mine), ("assistant", 3, mine)],
        "7731": [("assistant", 3, mine)],
        "shipped": [("tool", 4, mine)],
        "overloaded busy": [("error", None, mine)],
        "wa": [("error", None, mine)],
        "gave": [("error", None, mine)],
        "env=prod": [("tag", None, mine)],
        "verdict": [("tag", None, mine)],
        "outside": [("error", None, error)],
        "nightly": [("error", None, error)],
    }


@pytest.mark.parametrize("engine", ENGINES)
def test_filters_select_by_session_role_and_time(engine: str) -> None:
    """Tags, of the root too, tactic, state, partition, role, one session, and when it was said."""
    with new_store(engine) as store:
        history = History(store)
        root = history.start("p::a", "acme", {"env": "prod"}, None)
        child = history.start("p::b", "acme", {"who": "x"}, root)
        other = history.start("p::a", "", {"env": "test", "odd": "\udc80"}, None)
        for session in (root, child, other):
            history.say(session, "word", "user")
        history.finish(other, False)
        said = {hit.session_id: hit for hit in store.search("word")}
        assert said[child.id].tags == {"env": "prod", "who": "x"}
        assert said[child.id].tactic_path == "p::b"

        def found(**filters: object) -> set[str]:
            return {hit.session_id for hit in store.search("word", **filters)}  # type: ignore[arg-type]

        assert found(tags={"env": "prod"}) == {root.id, child.id}
        assert found(tags={"env": "prod", "who": "x"}) == {child.id}
        assert found(tags={"odd": "\udc80"}) == {other.id}
        assert found(tags={"env": "never"}) == set()
        assert found(tactic_path="p::a") == {root.id, other.id}
        assert found(state="failure") == {other.id}
        assert found(partition="acme") == {root.id, child.id}
        assert found(partition="") == {other.id}
        assert found(role="user") == {root.id, child.id, other.id}
        assert found(role=["task", "tool"]) == set()
        assert found(session_id=root.id) == {root.id, child.id}
        assert found(session_id=child.id) == {child.id}
        assert found(session_id="none") == set()
        assert found(after=said[other.id].timestamp) == {other.id}
        assert found(before=said[other.id].timestamp) == {root.id, child.id}
        for wrong in ({"role": "robot"}, {"sort": "best"}, {"limit": -1}, {"cursor": "x"},
                      {"sort": "relevance", "cursor": "1"}):  # fmt: skip
            with pytest.raises(ValueError, match=r"is one of|limit|cursor"):
                found(**wrong)


@pytest.mark.parametrize("engine", ENGINES)
def test_hits_come_newest_first_and_in_pages(engine: str) -> None:
    """The cursor of a page leads to the next; the last has none."""
    with new_store(engine) as store:
        history = History(store)
        session = history.start("p::t", "", {}, None)
        for number in range(7):
            history.say(session, f"word {number}")
        pages, cursor = [], None
        while True:
            page = store.search("word", limit=3, cursor=cursor)
            pages.append([hit.message for hit in page])
            cursor = page.cursor
            if cursor is None:
                break
    assert pages == [[7, 6, 5], [4, 3, 2], [1]]


@pytest.mark.parametrize("engine", ENGINES)
def test_by_relevance_the_best_come_first(engine: str) -> None:
    """A short text with the word often is better than a long one; a note says what was left out."""
    with pytest.MonkeyPatch.context() as patched, new_store(engine) as store:
        history = History(store)
        session = history.start("p::t", "", {}, None)
        for text in ("word word word", "word and much else that nobody asked for", "no"):
            history.say(session, text)
        hits = store.search("word", sort="relevance")
        assert [hit.message for hit in hits] == [1, 2]
        assert hits.note is None
        scores = [hit.score or 0 for hit in hits]
        assert scores[0] > scores[1] > 0
        patched.setattr(queries, "MOST_SCORED", 1)
        hits = store.search("word", sort="relevance")
        assert [hit.message for hit in hits] == [2]
        assert "were not looked at" in str(hits.note)


WORDS_ALONE = ("kettle", "kettle refund", "the OR order", "日本", "refund NOT kettle")
OTHERS = ('"the kettle"', "ket*", "本", '"a the"*', "the OR 日本語", '"kettle refund" OR the',
          "b OR (a the)")  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_both_engines_answer_alike(seed: int) -> None:
    """The same hits in the same order; by relevance too, where single words are looked for."""
    chance = random.Random(seed)
    words = ["a", "b", "the", "kettle", "kettles", "refund", "日本語"]
    texts = [" ".join(chance.choices(words, k=chance.randrange(9))) for _ in range(30)]
    answers = []
    for engine in ("sqlite", "postgres"):
        with new_store(engine) as store:
            history = History(store)
            session = history.start("p::t", "", {}, None)
            for text in texts:
                history.say(session, text)
            answers.append(
                [
                    (sort, query, hit.message, round(hit.score or 0, 6))
                    for sort in SEARCH_SORTS
                    for query in WORDS_ALONE + (OTHERS if sort == "newest" else ())
                    for hit in store.search(query, sort=sort, limit=None)
                ]
            )
    assert answers[0] == answers[1]


@pytest.mark.slow
def test_long_texts_in_postgres() -> None:
    """A phrase is found at any place, and nothing else is found for one, in a text with more places
    than a tsvector holds; and so are very long words."""
    long = "x" * 1_500
    text = f"first of {'the word ' * 9_000} last delivery of {long}Y the end"
    with new_store("postgres") as store:
        history = History(store)
        session = history.start("p::t", "", {}, None)
        history.say(session, text)
        history.say(session, "the last and the first")
        found = {
            query: [hit.message for hit in store.search(query)]
            for query in ('"last delivery"', '"delivery last"', '"word the word"', '"word last"',
                          '"of the end"', "first", '"deliv"*', '"last deliv"*', f"{long}y", long,
                          f"{long}*", f'"{long}y the"', 'first NOT "last delivery"',
                          '"last delivery" OR "the first"')
        }  # fmt: skip
        assert store.search("word", sort="relevance")[0].score
    assert found == {
        '"last delivery"': [1], '"delivery last"': [], '"word the word"': [1], '"word last"': [1],
        '"of the end"': [], "first": [2, 1], '"deliv"*': [1], '"last deliv"*': [1],
        f"{long}y": [1], long: [], f"{long}*": [1], f'"{long}y the"': [1],
        'first NOT "last delivery"': [2], '"last delivery" OR "the first"': [2, 1],
    }  # fmt: skip


@pytest.mark.slow
def test_a_text_with_more_words_than_postgres_indexes(caplog: pytest.LogCaptureFixture) -> None:
    """The first are found, and how many are not is told."""
    with new_store("postgres") as store:
        history = History(store)
        many = " ".join(map(str, range(100_000, 200_000)))
        history.say(history.start("p::t", "", {}, None), many)
        assert len(store.search("100000")) == 1
        assert store.search("199999") == []
        assert "more different words" in caplog.text
        assert store.rebuild(check=True).difference is None


@pytest.mark.parametrize("engine", ENGINES)
def test_a_filter_that_nothing_fits_ends_the_search(engine: str) -> None:
    """What one call looks at is bounded; the note says so, and the cursor goes on."""
    with pytest.MonkeyPatch.context() as patched, new_store(engine) as store:
        history = History(store)
        old = history.start("p::t", "", {"env": "old"}, None)
        history.say(old, "word")
        new = history.start("p::t", "", {}, None)
        for _ in range(5):
            history.say(new, "word")
        patched.setattr(queries, "MOST_EXAMINED", 4)
        hits = store.search("word", tags={"env": "old"})
        assert (list(hits), hits.examined) == ([], 4)
        assert hits.note is not None
        assert hits.cursor is not None
        hits = store.search("word", tags={"env": "old"}, cursor=hits.cursor)
        assert [hit.session_id for hit in hits] == [old.id]
        assert hits.note is None


def test_replays_are_found_when_they_are_asked_for(tmp_path: Path) -> None:
    """A replay says again what was said; one search finds each once."""
    from lllm.events.model import Origin
    from lllm.events.recorder import Recorder

    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store:
        recorder = Recorder(store.log, "p::t", ancestors=())
        origin = Origin("01m0", "replay")
        recorder.stage(SessionStarted(tactic_path="p::t", name="t", task="the kettle",
                                      origin=origin, salt=recorder.salt))  # fmt: skip
        recorder.commit()
        assert store.search("kettle") == []
        assert len(store.search("kettle", replays=True)) == 1


@pytest.mark.parametrize("backend", [SQLiteBackend, LocalFileBackend])
def test_a_long_text_is_shown_around_its_words(
    tmp_path: Path, backend: Callable[[Path], SQLiteBackend | LocalFileBackend]
) -> None:
    """A snippet has all words that were looked for, however far from each other they stand."""
    middle = "much else, " * 2_000
    text = f"Once\nupon a kettle {middle} a *refund* {middle} KETTLE end"
    with LogStore(backend(tmp_path / "store")) as store:
        with store.session("p::t", task=text):
            pass
        [hit] = store.search('refund "kettle end"')
    assert len(hit.snippet) < 400
    assert [hit.snippet[a:b] for a, b in hit.matches] == ["refund", "KETTLE end"]
    assert hit.snippet.startswith("… ")
    assert hit.snippet.endswith("KETTLE end")
    assert "\n" not in hit.snippet


def test_a_hit_in_damage_is_shown_without_its_text(tmp_path: Path) -> None:
    """Where the event of a hit can't be read, the hit says so, and the others are shown."""
    path = tmp_path / "logs"
    with closing(LogStore(LocalFileBackend(path))) as store:
        for word in ("first", "second"):
            with store.session("p::t", task=f"the {word} kettle"):
                pass
    [file] = path.glob("*.jsonl")
    lines = file.read_bytes().splitlines(keepends=True)
    at = next(number for number, line in enumerate(lines) if b"the first kettle" in line)
    lines[at] = lines[at].replace(b"the first kettle", b"the other kettle")
    file.write_bytes(b"".join(lines))
    with closing(LogStore(LocalFileBackend(path))) as store:
        hits = store.search("kettle")
    assert "the second kettle" in hits[0].snippet
    assert "can't be read" in hits[1].snippet or "other" in hits[1].snippet
