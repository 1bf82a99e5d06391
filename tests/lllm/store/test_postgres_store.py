"""A store in PostgreSQL does what every store does; what it can't do yet is one clear error."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from lllm import (
    LocalFileBackend,
    LogStore,
    PostgresBackend,
    SQLiteBackend,
    StoreError,
    Tactic,
)
from lllm.cli import main
from lllm.invokers.scripted import ScriptedInvoker
from lllm.testing.writers import without_positions
from tests.lllm.test_lesson7 import CONFIG, MyTactic
from tests.support.postgres import new_schema, server


@pytest.fixture
def url() -> str:
    """A log that nobody has made yet."""
    return server().url(new_schema())


@pytest.fixture
def store(url: str) -> Iterator[LogStore]:
    """A store in it."""
    with LogStore.open(url) as opened:
        yield opened


def say(store: LogStore, text: str) -> str:
    """A session that says something. Returns its id."""
    model = ScriptedInvoker([text])
    Tactic.quick("Say it.", model="m", invoker=model, log_store=store)
    return store.list_sessions(limit=1)[0].session_id


def test_the_lesson(url: str) -> None:
    """Every call of the lesson, on a store that another machine writes to as well."""
    with LogStore(backend=PostgresBackend(url)) as store, LogStore.open(url) as other:
        tactic = MyTactic(CONFIG, log_store=store)
        session = tactic("task", tags={"env": "prod"}, return_session=True)
        with pytest.raises(RuntimeError):
            MyTactic(CONFIG, log_store=other)("bad", tags={"env": "prod"})
        for reader in (store, other):
            failed, good = reader.list_sessions(tags={"env": "prod"}, limit=50)
            assert (failed.state, good.state) == ("failure", "success")
            assert reader.load_session(good.session_id) == session
            assert "cannot analyse" in (
                reader.load_session_record(failed.session_id).traceback or ""
            )
            summary = reader.export_cost_summary(tags={"env": "prod"})
            assert summary["session_count"] == 2
            assert list(reader.search("facts OR task"))
        assert store.lag == 0


@pytest.mark.slow
def test_another_machine_replays_it(url: str, store: LogStore) -> None:
    """A recorded session runs again from the log."""
    tactic = MyTactic(CONFIG, log_store=store)
    recorded = tactic("task", return_session=True)
    with LogStore.open(url) as other:
        assert MyTactic(CONFIG, log_store=other).replay(recorded.session_id) == "writer says so"


@pytest.mark.slow
def test_seals_and_proofs(store: LogStore, url: str, tmp_path: Path) -> None:
    """A seal is kept, a session is proven, and both are checked by the commands."""
    session_id = say(store, "It.")
    seal, proof = tmp_path / "seal", tmp_path / "proof"
    assert main(["seal", "--store", url, "--out", str(seal)]) == 0
    say(store, "More.")
    assert main(["verify", "--store", url, "--checkpoint", str(seal)]) == 0
    out = ["--out", str(proof), "--checkpoint", str(seal)]
    assert main(["prove", "--store", url, session_id, *out]) == 0
    assert main(["verify", "--proof", str(proof), "--checkpoint", str(seal)]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "jsonl", "postgres"])
def test_moving_from_one_backend_to_another(store: LogStore, tmp_path: Path, kind: str) -> None:
    """Import takes a store there and back, with every digest."""
    ids = [say(store, f"It {n}.") for n in range(3)]
    places = {
        "sqlite": lambda: SQLiteBackend(tmp_path / "runs.db"),
        "jsonl": lambda: LocalFileBackend(tmp_path / "logs"),
        "postgres": lambda: PostgresBackend(server().url(new_schema())),
    }
    with LogStore(places[kind]()) as there, LogStore.open(server().url(new_schema())) as back:
        assert there.import_sessions(store.backend).sessions == 3
        assert back.import_sessions(there.backend).sessions == 3
        assert there.import_sessions(store.backend).sessions == 0
        for one in ids:
            assert back.load_session(one) == there.load_session(one) == store.load_session(one)
        moved, first = (without_positions(one.log.read()) for one in (back, store))
        key = lambda event: (event.stream, event.seq)  # noqa: E731
        assert sorted(moved, key=key) == sorted(first, key=key)


@pytest.mark.slow
def test_the_commands(
    url: str, store: LogStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each that looks at a store or keeps it takes the URL."""
    session_id = say(store, "A kettle.")
    for command in (
        ["ls"], ["show", session_id], ["verify"], ["doctor"], ["cost"], ["calls"],
        ["events", session_id], ["search", "kettle"], ["export", session_id],
        ["rebuild", "--check"], ["tag", session_id, "a=b"], ["audit", session_id],
        ["backup", str(tmp_path / "copy")],
    ):  # fmt: skip
        assert main([*command, "--store", url]) == 0, command
    said = capsys.readouterr().out
    assert f"store                {PostgresBackend(url).path} (PostgreSQL)" in said
    assert "Integrity: good." in said
    with LogStore.open(tmp_path / "copy") as copy:
        assert copy.list_sessions()[0].session_id == session_id


@pytest.mark.slow
def test_what_is_not_there_yet(
    url: str, store: LogStore, capsys: pytest.CaptureFixture[str]
) -> None:
    """SQL is refused, and nothing is changed."""
    say(store, "It.")
    before = list(store.log.read())
    with pytest.raises(StoreError, match="is for SQLite"):
        store.database()
    assert main(["repair", "--store", url]) == 0
    assert list(store.log.read()) == before
    capsys.readouterr()


@pytest.mark.slow
def test_a_store_that_is_not_there(url: str) -> None:
    """A command makes no store, and a store that is made has a schema of its own."""
    assert main(["ls", "--store", url]) == 2
    with pytest.raises(StoreError, match="There is no store at postgresql://postgres@"):
        LogStore.open(url, make=False)
    with LogStore.open(url) as made, LogStore.open(server().url(new_schema())) as other:
        say(made, "It.")
        assert len(made.list_sessions()) == 1
        assert other.list_sessions() == []


@pytest.mark.slow
def test_a_store_travels_to_another_process(store: LogStore) -> None:
    """It is pickled by its URL, and opened there."""
    say(store, "It.")
    with pickle.loads(pickle.dumps(store)) as other:
        assert other.list_sessions() == store.list_sessions()
