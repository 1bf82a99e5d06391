"""Histories of several stores, merged into one in any order, are what they were."""

from __future__ import annotations

import random
import sqlite3
import tempfile
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lllm import LocalFileBackend, LogStore, Runtime, SQLiteBackend
from tests.support.random_histories import write

GROUPINGS = ("tactic", "model", "agent", "day", "tag:env")


def opened(folder: Path, name: str, *, jsonl: bool) -> LogStore:
    """A store of one of the two kinds, with a runtime that no other test knows."""
    backend = LocalFileBackend(folder / name) if jsonl else SQLiteBackend(folder / f"{name}.db")
    return LogStore(backend, runtime=Runtime())


def exported(store: LogStore, folder: Path, chance: random.Random) -> list[str]:
    """All of a store as files: each session's export, in any order, in one file or several.

    Sessions below others are exported by themselves, too.
    """
    ids = [one.session_id for one in store.list_sessions()]
    ids += [one.session_id for one in store.list_sessions(tactic_path="a")]
    texts = [store.export_session(one, "jsonl") for one in ids]
    chance.shuffle(texts)
    if chance.random() < 0.5:
        texts = ["\n".join(texts)]
    paths = []
    for number, text in enumerate(texts):
        path = folder / f"{chance.random()}-{number}.jsonl"
        path.write_text(text)
        paths.append(str(path))
    return paths


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), jsonl=st.booleans())
def test_merged_in_any_order(seed: int, jsonl: bool) -> None:
    """Loads, lists and costs of the whole are those of the parts; another import adds nothing, and
    rows that are built anew are the same."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        parts = [opened(folder, f"s{n}", jsonl=chance.random() < 0.3) for n in range(3)]
        sources: list[list[str]] = []
        for part in parts:
            write(part, chance)
            whole = chance.random() < 0.5
            path = str(part.backend.path)  # type: ignore[attr-defined] # both kinds have one
            sources.append([path] if whole else exported(part, folder, chance))
        chance.shuffle(sources)
        with opened(folder, "all", jsonl=jsonl) as merged:
            if chance.random() < 0.5:
                merged.import_sessions(*(one for source in sources for one in source))
            else:
                for source in sources:
                    merged.import_sessions(*source)
            for source in sources:
                assert merged.import_sessions(*source).events == 0
            same(parts, merged)
            assert merged.rebuild(check=True).difference is None
            merged.rebuild()
            same(parts, merged)
        for part in parts:
            part.close()


def same(parts: list[LogStore], merged: LogStore) -> None:
    """Whether a store is what some others are together."""
    for tactic in (None, "a", "p::b"):
        lists = [part.list_sessions(tactic_path=tactic) for part in parts]
        listed = [one for some in lists for one in some]
        listed.sort(key=lambda one: (one.timestamp, one.session_id), reverse=True)
        found = merged.list_sessions(tactic_path=tactic)
        assert sorted(found, key=lambda one: one.session_id) == sorted(
            listed, key=lambda one: one.session_id
        )
        for part, some in zip(parts, lists, strict=True):
            for one in some:
                here = merged.load_session_record(one.session_id)
                assert here == part.load_session_record(one.session_id)
    for grouping in GROUPINGS:
        costs: Counter[str] = Counter()
        for part in parts:
            costs.update(nanos(part, grouping))
        assert nanos(merged, grouping) == costs


def nanos(store: LogStore, grouping: str) -> Counter[str]:
    """What each group of a summary cost, and how many calls it had."""
    summary = store.export_cost_summary(group_by=grouping)
    found: Counter[str] = Counter(sessions=summary["session_count"])
    for group in summary["groups"]:
        found[f"{group['key']} cost"] += round(group["total_cost_usd"] * 10**9)
        found[f"{group['key']} calls"] += group["calls"]
    return found


def rows(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """The rows of all views."""
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'view'").fetchall()
        return {
            name: sorted(connection.execute(f"SELECT * FROM {name}").fetchall(), key=repr)
            for (name,) in found
        }


@pytest.mark.parametrize("seed", range(3))
def test_rows_are_those_of_the_origin(tmp_path: Path, seed: int) -> None:
    """A whole store that is imported into an empty one has the same events in the same order, and
    so the same rows, positions included."""
    with opened(tmp_path, "origin", jsonl=False) as origin:
        write(origin, random.Random(seed))
        origin.rebuild()
        with opened(tmp_path, "copy", jsonl=False) as copy:
            copy.import_sessions(tmp_path / "origin.db")
            copy.rebuild()
            assert list(copy.log.read()) == list(origin.log.read())
    assert rows(tmp_path / "copy.db") == rows(tmp_path / "origin.db")
