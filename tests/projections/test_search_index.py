"""The search index of a store: where it is, how it is kept up, and what is left of erased words."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from lllm import LogStore, SearchUnavailable, SQLiteBackend
from lllm.events.ids import new_id
from lllm.events.model import SessionErased
from lllm.events.statements import append_statement
from lllm.projections.engine import rebuild as rebuilding
from lllm.projections.engine.projector import Projector
from lllm.projections.engine.sqlite import search_index
from lllm.projections.view import Rows, Table, ViewEvent
from lllm.projections.views import messages
from lllm.store import read_model
from tests.support.histories import History
from tests.support.postgres import new_schema, server

Open = Callable[[], LogStore]


@pytest.fixture(params=["runs.db", "logs/"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens one store, as often as it is called."""
    with closing(opening(f"{tmp_path}/{request.param}")) as opens:
        yield next(opens)


@pytest.fixture(params=["runs.db", "logs/", pytest.param("", marks=pytest.mark.slow)])
def opened_anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """The same, also in PostgreSQL."""
    place = f"{tmp_path}/{request.param}" if request.param else server().url(new_schema())
    with closing(opening(place)) as opens:
        yield next(opens)


def opening(place: str) -> Generator[Open, None, None]:
    """What opens the store at a place; in the end, all are closed."""
    stores: list[LogStore] = []

    def open_store() -> LogStore:
        for before in stores:
            before.close()
        stores.append(LogStore.open(place))
        return stores[-1]

    try:
        yield open_store
    finally:
        for store in stores:
            store.close()


@pytest.fixture
def without_fts5() -> Iterator[pytest.MonkeyPatch]:
    """A Python whose SQLite has no full-text search."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(read_model, "has_full_text_search", lambda: False)
        yield patched


def tell(store: LogStore, *tasks: str) -> list[str]:
    """Sessions with these tasks; returns their ids."""
    ids = []
    for task in tasks:
        with store.session("p::t", task=task) as session:
            ids.append(session.session_id)
    return ids


def tables(store: LogStore) -> set[str]:
    """The tables of messages that there are, without those within an index."""
    database = store._rows.database
    names = (
        "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(current_schema)"
        " AND relkind IN ('r', 'v') AND relname LIKE 'messages%'"
        if database.engine == "postgres"
        else "SELECT name FROM sqlite_master WHERE name LIKE 'messages%'"
    )
    return {str(name) for (name,) in database.query(names) if str(name).count("_") < 3}


def test_a_new_store_has_an_index_and_keeps_what_was_chosen(opened_anywhere: Open) -> None:
    """On for new stores; off and on again stay, whoever opens the store next."""
    opened = opened_anywhere
    store = opened()
    tell(store, "the kettle")
    assert len(store.search("kettle")) == 1
    assert store.rebuild(search=False).views == ()
    assert tables(store) == set()
    with pytest.raises(SearchUnavailable, match="lllm rebuild --search on"):
        store.search("kettle")
    store = opened()
    tell(store, "another kettle")
    assert store.lag == 0
    assert "messages" not in store.rebuild().views
    assert "messages" not in store.rebuild(check=True).views
    with pytest.raises(SearchUnavailable):
        store.search("kettle")
    assert store.rebuild(search=True).views == ("messages",)
    store = opened()
    assert len(store.search("kettle")) == 2
    assert "messages" in store.rebuild().views
    with pytest.raises(ValueError, match="give one of them"):
        store.rebuild(check=True, search=True)


def test_a_store_of_before_gets_an_index_by_a_rebuild(
    opened: Open, without_fts5: pytest.MonkeyPatch
) -> None:
    """Nothing is built on opening it; until a rebuild, a search says what to do."""
    tell(opened(), "the kettle")
    without_fts5.undo()
    store = opened()
    with pytest.raises(SearchUnavailable, match="no search index"):
        store.search("kettle")
    assert store.lag == 0
    assert "messages" in store.rebuild().views
    assert len(store.search("kettle")) == 1


def test_without_full_text_search_all_else_goes_on(
    opened: Open, without_fts5: pytest.MonkeyPatch
) -> None:
    """Another Python, whose SQLite has no FTS5, writes to a store with an index; whoever has it
    catches up."""
    without_fts5.undo()
    tell(opened(), "the kettle")
    without_fts5.setattr(read_model, "has_full_text_search", lambda: False)
    store = opened()
    tell(store, "another kettle")
    assert (len(store.list_sessions()), store.lag) == (2, 0)
    for search in (lambda: store.search("kettle"), lambda: store.rebuild(search=True)):
        with pytest.raises(SearchUnavailable, match="without full-text search"):
            search()
    store.rebuild()
    without_fts5.undo()
    assert len(opened().search("kettle")) == 2


def test_fts5_is_looked_for() -> None:
    """The SQLite of these tests has it; one that has not refuses to make the table."""
    assert search_index.has_full_text_search()


def test_an_index_that_differs_is_found(opened: Open) -> None:
    """A check compares the words of the index with those of the events, and a rebuild mends it."""
    store = opened()
    tell(store, "the kettle", "the teapot")
    [(id_,)] = store._rows.database.query("SELECT max(id) FROM messages")
    for change in (
        "INSERT INTO {0} ({0}, rowid, text) VALUES ('delete', ?, 'the teapot')",
        "INSERT INTO {0} (rowid, text) VALUES (? + 1, 'teapot')",
        "INSERT INTO {0} (rowid, text) VALUES (?, 'kettle')",
    ):
        [(at,)] = store._rows.database.query(
            "SELECT generation FROM checkpoints WHERE view = 'messages'"
        )
        with store._rows.database.write() as connection:
            assert connection is not None
            connection.execute(change.format(f"messages_v{at}_search"), (id_,))
        difference = store.rebuild(check=True).difference
        assert difference is not None
        assert difference.view == "messages"
        assert difference.key["word"] in ("kettle", "teapot", "the")
        store.rebuild()
        assert store.rebuild(check=True).difference is None
        assert len(tables(store)) == 3  # the name, one generation and its index


def test_a_rebuild_that_was_stopped_leaves_nothing_for_long(
    opened_anywhere: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it made is in nobody's way, and the next one removes it, index and all."""
    store = opened_anywhere()
    tell(store, *(f"kettle {number}" for number in range(5)))
    with monkeypatch.context() as patched:
        patched.setattr(search_index, "_CHUNK", 2)
        patched.setattr(rebuilding, "_replace", _interrupted)
        patched.setattr(rebuilding, "remove_unused", lambda *_: None)
        with pytest.raises(KeyboardInterrupt):
            store.rebuild()
        assert len(tables(store)) == 5
    assert len(store.search("kettle", limit=None)) == 5
    with monkeypatch.context() as patched:
        patched.setattr(search_index, "_CHUNK", 2)
        store.rebuild()
    assert len(tables(store)) == 3
    assert len(store.search("kettle", limit=None)) == 5


def _interrupted(projector: Projector, building: rebuilding._Building, _: object) -> None:
    building.feed(projector.log.head(), None)
    raise KeyboardInterrupt


def erase(store: LogStore, session_id: str) -> None:
    """Say that a session was erased, before anything of it is gone."""
    stream = f"erased-{new_id()}"
    said = SessionErased(
        about=session_id, by="me", reason="asked", events=2, tactic_path="p::t", state="success",
        started=0, salt=b"s" * 32,
    )  # fmt: skip
    append_statement(store.log, stream, said, salt=b"s" * 32)


@pytest.mark.parametrize("at_once", [True, False])
def test_erased_words_are_in_no_byte_of_the_index(
    opened: Open, tmp_path: Path, at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session's words leave the index while the log still has them, in one batch with its events
    or later; after an erasure, no file holds them, nor a part of them beside others like them."""
    monkeypatch.setattr(search_index, "_MERGED", 1)
    store = opened()
    tell(store, *("an ordinary zanzi kettle" for _ in range(30)))
    store.search("kettle")
    history = History(store)
    secret, other = (history.start("p::t", "", {}, None) for _ in range(2))
    history.say(secret, "first words", "system")
    history.say(secret, "the zanzibarsecret kettle", "tool")
    history.say(other, "a kettle", "tool")
    history.finish(secret, True)
    if not at_once:
        assert len(store.search("zanzibarsecret")) == 1
    store.tag(secret.id, {"about": "zanzibarsecret"})
    store.erase_session(secret.id, reason="asked to", by="ada")
    assert store.search("zanzibarsecret") == []
    assert len(store.search("kettle", limit=None)) == 31
    assert store.search("kettle")[0].session_id == other.id
    assert store.rebuild(check=True).difference is None
    path = store._rows.database.path
    store.close()
    with closing(sqlite3.connect(path)) as connection:
        [(at,)] = connection.execute("SELECT generation FROM checkpoints WHERE view = 'messages'")
        blocks = connection.execute(f"SELECT block FROM messages_v{at}_search_data").fetchall()
    assert any(b"zanzi" in block for (block,) in blocks)
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert not any(b"barsecret" in file.read_bytes() for file in files)


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [True, False])
def test_erased_words_leave_the_files_of_postgres(at_once: bool) -> None:
    """They are found no more at once, and are in no byte of the index once it was vacuumed."""
    with LogStore.open(server().url(new_schema())) as store:
        rows = store._rows.database
        [secret, other] = tell(store, "the zanzibarsecret kettle", "a kettle")
        if not at_once:
            assert len(store.search("zanzibarsecret")) == 1
        erase(store, secret)
        assert store.search("zanzibarsecret") == []
        assert [hit.session_id for hit in store.search("kettle", sort="relevance")] == [other]
        rows.vacuum()
        server().run("CHECKPOINT")
        files = rows.query(
            "SELECT pg_relation_filepath(one.oid) FROM pg_class AS one WHERE relname LIKE"
            " '%messages%' AND relkind IN ('r', 'i') AND one.relnamespace ="
            " to_regnamespace(current_schema)"
        )
        found = [(server().folder / "data" / str(path)).read_bytes() for (path,) in files]
        assert any(b"kettle" in one for one in found)
        assert not any(b"zanzibar" in one for one in found)


@pytest.mark.slow
def test_an_index_in_postgres_that_differs_is_found() -> None:
    """A check compares the words of the index with those of the events, and a rebuild mends it."""
    with LogStore.open(server().url(new_schema())) as store:
        tell(store, "the kettle", "the teapot")
        store.list_sessions()
        for at, (change, word) in enumerate(
            (
                ("UPDATE {0} SET words = 'the:1 kettle:2'", "kettle"),
                ("UPDATE {0} SET words = 'the:2 teapot:1' WHERE words @@ 'teapot'", "teapot"),
                ("DELETE FROM {0}", "kettle"),
            ),
            start=1,
        ):
            with store._rows.database.write() as connection:
                assert connection is not None
                connection.execute(change.format(f"messages_v{at}_search"))
            difference = store.rebuild(check=True).difference
            assert difference is not None
            assert (difference.view, difference.key) == ("messages", {"word": word})
            store.rebuild()
            assert store.rebuild(check=True).difference is None


def test_what_was_erased_too_early_stops_the_index_and_no_other_view(
    opened_anywhere: Open, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Words whose text nobody has can't be taken out: the index says that it has to be rebuilt."""
    opened = opened_anywhere
    store = opened()
    [secret] = tell(store, "the zanzibarsecret kettle")
    assert len(store.search("kettle")) == 1
    with monkeypatch.context() as patched:
        patched.setattr(messages, "texts_of", lambda _: ())
        erase(store, secret)
        tell(store, "more")
        assert len(store.list_sessions()) == 2
    assert "before the index could forget" in caplog.text
    assert store.lag > 0
    store = opened()
    store.rebuild()
    assert store.search("kettle") == []
    assert store.lag == 0


def test_a_built_index_needs_no_more_memory_than_others(opened: Open) -> None:
    """The settings of its filling, such as 16 MB for the words of a transaction, do not stay."""
    store = opened()
    tell(store, "the kettle")
    store.rebuild()
    (name,) = (name for name in tables(store) if name.endswith("_search"))
    found = dict(store._rows.database.query(f"SELECT k, v FROM {name}_config"))
    usual = {"automerge": 4, "crisismerge": 16, "hashsize": 1 << 20}
    assert {key: found[key] for key in usual} == usual


def test_a_user_view_can_have_an_index(tmp_path: Path) -> None:
    """`search=` is for anybody's tables: a text is put, found by its words, and taken out."""

    class Names:
        name = "names"
        version = 1
        types = ("session.started", "session.tagged")
        tables = (Table("names", {"id": "INTEGER"}, key=("id",), search="text"),)

        def apply(self, rows: Rows, batch: Sequence[ViewEvent]) -> None:
            for one in batch:
                assert one.session is not None
                key = (one.session.number,)
                if one.event.type == "session.started":
                    rows.put("names", key, text=f"café {one.payload.task}")  # type: ignore[attr-defined]
                elif rows.get("names", key) is not None:
                    rows.delete("names", key, text="café one")

    with LogStore(SQLiteBackend(tmp_path / "runs.db"), views=[Names()]) as store:
        [one, _] = tell(store, "one", "two")
        sql = "SELECT rowid FROM names_v1_search WHERE names_v1_search MATCH 'cafe'"
        store.list_sessions()
        assert len(store._rows.database.query(sql)) == 2
        store.tag(one, {"x": "y"})
        store.tag(one, {"x": "z"})
        store.list_sessions()
        assert len(store._rows.database.query(sql)) == 1
        assert store.rebuild(check=True).difference is None


def test_of_a_long_text_the_beginning_is_found_and_that_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store:
        with store.session("p::long", task=f"early {'x ' * (1 << 19)} late"):
            pass
        assert len(store.search("early")) == 1
        assert store.search("late") == []
        assert "is long: a search finds words of its first 1048576 characters" in caplog.text
        assert store.rebuild(check=True).difference is None
