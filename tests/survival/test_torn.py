"""Torn and dirty tails, and what a crash leaves between two steps of rolling and of rebuilding."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

import pytest

from lllm import LogStore
from lllm.events.backends.jsonl.backend import LocalFileBackend
from lllm.events.backends.jsonl.line_format import encode_append
from lllm.events.errors import LogDamaged
from lllm.events.integrity.repair import repair
from lllm.projections.engine.sqlite.tables import create_tables, show_generation
from lllm.projections.table_names import generation_table, search_table
from lllm.projections.view import View
from lllm.testing.writers import event, without_positions
from tests.support.echo import echo
from tests.survival.figures import Figures
from tests.survival.places import KINDS, Kind, Place, rows_of
from tests.survival.scale import Scale, asked_for
from tests.survival.tearing import (
    Journal,
    copied,
    garbage,
    growing,
    noted,
    opens_right,
    places_to_cut,
)

pytestmark = pytest.mark.slow


def cut(scale: Scale, folder: Path, kind: Kind) -> Figures:
    """Cut the last write at every byte, or the whole write-ahead log at every place.

    The short scale takes every fourth byte; test_jsonl cuts the log itself at each of them.
    """
    figures = Figures(f"cut {kind}", rounds=1)
    place = Place(kind, folder / "store")
    place.folder.mkdir()
    journal = Journal(place)
    store = journal.open()
    journal.write(store, 2)
    store.list_sessions()
    store.save_error(ValueError("the last write"))
    file = growing(place)
    _, size, _ = journal.appends[-1]
    sizes: Iterable[int] = range(journal.appends[-2][1], size + 1, 1 if scale.long else 4)
    if kind == "sqlite":
        sizes = places_to_cut(file, scale.cuts, scale.random(figures.what))
    for number, at in enumerate(sizes):
        if kind == "jsonl" and at == size - 1:
            continue  # it lacks its newline alone, and is kept
        torn = copied(place, number)
        os.truncate(torn.folder / file.relative_to(place.folder), at)
        if kind == "jsonl":
            noted(torn, int(file.stem) + journal.appends[-2][1])
        with scale.told(f"{figures.what} to {at} of {size} bytes"):
            opens_right(torn, journal.expected(file, at), figures)
    store.close()
    return figures.whole()


def cut_and_soil(scale: Scale, folder: Path, kind: Kind) -> Figures:
    """Rounds of both, one after another, on one store that is written to in between."""
    figures = Figures(f"cut and soil {kind}")
    chance = scale.random(figures.what)
    for number in range(max(10, scale.rounds)):
        if number % 10 == 0:
            journal = Journal(Place(kind, folder / f"soiled{number}"))
            journal.place.folder.mkdir()
        with scale.told(f"{figures.what}, round {number}"):
            with journal.open() as store:
                journal.write(store, 1)  # behind what the last round left
            journal.settle()
            with journal.open() as store:
                journal.write(store, 2)
                journal.place = copied(journal.place, number)  # as if all died here
            file = growing(journal.place)
            if number % 3:
                journal.cut(file, chance.randrange(file.stat().st_size + 1))
            if number % 3 < 2:
                with file.open("ab") as opened:
                    opened.write(garbage(journal.place, chance, behind_a_cut=number % 3 > 0))
            opens_right(copied(journal.place, number + 10_000), journal.expected(), figures)
        figures.rounds += 1
    return figures.whole()


# -- between two steps of beginning a segment

_TORN = encode_append([event("s", 4, b'"%b"' % (b"x" * 20_000))])[0][:250]


def full(folder: Path) -> Place:
    """A log whose last segment is just full, with no other behind it."""
    place = Place("jsonl", folder, segment_bytes=3_000)
    with place.store() as store:
        echo(store)("fill")
        while growing(place).stat().st_size < place.segment_bytes:
            store.save_error(ValueError("one append"))
    return place


def following(path: Path) -> Path:
    """The segment that comes behind the last one."""
    last = max(path.glob("*.jsonl"))
    return path / f"{int(last.stem) + last.stat().st_size:020}.jsonl"


def begun_and_empty(path: Path) -> None:
    """The next segment was made, and nothing was written to it."""
    following(path).touch()


def begun_and_torn(path: Path) -> None:
    """The first write to the next segment was cut short."""
    following(path).write_bytes(_TORN)


def not_begun(_: Path) -> None:
    """The last segment is full, and its writer died before the next."""


def torn_behind_full(path: Path) -> None:
    """A write of one who wanted larger segments was cut short."""
    with max(path.glob("*.jsonl")).open("ab") as file:
        file.write(_TORN)


def long_torn_tail(path: Path) -> None:
    """The torn tail is longer than a segment."""
    with max(path.glob("*.jsonl")).open("ab") as file:
        file.write(_TORN + b"x" * 10_000)


def first_segment_empty(path: Path) -> None:
    """The log was made, and nothing was ever written to it."""
    shutil.rmtree(path / "locks")
    for rows in path.glob("rows.sqlite*"):
        rows.unlink()
    for file in path.glob("*.jsonl"):
        file.write_bytes(b"")
        if file.stem != "0" * 20:
            file.unlink()


ROLLING = [
    begun_and_empty, begun_and_torn, not_begun, torn_behind_full, long_torn_tail,
    first_segment_empty,
]  # fmt: skip


# -- between two steps of showing new rows


def _next_generation(store: LogStore, *, filled: bool = True) -> dict[View, int]:
    """Make the next tables of all views as a rebuild does, and fill them."""
    views = store._rows.projector.views
    found = store._rows.projector.checkpoints()
    with rows_of(store).write() as connection:
        assert connection is not None
        for view in views:
            old = found[view.name].generation
            create_tables(connection, view, old + 1)
            for table in view.tables if filled else ():
                connection.execute(
                    f"INSERT INTO {generation_table(table.name, old + 1)} "
                    f"SELECT * FROM {generation_table(table.name, old)}"
                )
                for part in ("data", "idx", "docsize") if table.search else ():
                    index, before = (search_table(table.name, at) for at in (old + 1, old))
                    connection.execute(f"DELETE FROM {index}_{part}")
                    connection.execute(f"INSERT INTO {index}_{part} SELECT * FROM {before}_{part}")
    return {view: found[view.name].generation + 1 for view in views}


def made_and_empty(store: LogStore) -> None:
    """The new tables are there, and nothing in them."""
    _next_generation(store, filled=False)


def filled_and_not_shown(store: LogStore) -> None:
    """The new tables are filled, and the old are shown."""
    _next_generation(store)


def shown_and_old_there(store: LogStore) -> None:
    """The new tables are shown, and the old not removed."""
    generations = _next_generation(store)
    with rows_of(store).write() as connection:
        assert connection is not None
        for view, generation in generations.items():
            show_generation(connection, view, generation)
            connection.execute(
                "UPDATE checkpoints SET generation = ? WHERE view = ?", (generation, view.name)
            )


def old_half_emptied(store: LogStore) -> None:
    """The same, with some rows of the old removed."""
    generations = store._rows.projector.checkpoints()
    shown_and_old_there(store)
    with rows_of(store).write() as connection:
        assert connection is not None
        table = generation_table("sessions", generations["sessions"].generation)
        connection.execute(f"DELETE FROM {table} WHERE number % 2")


def checkpoint_of_one(store: LogStore) -> None:
    """Only one view is known to have rows."""
    with rows_of(store).write() as connection:
        assert connection is not None
        connection.execute("DELETE FROM checkpoints WHERE view != 'sessions'")


def no_checkpoint(store: LogStore) -> None:
    """No view is known to have rows, and the tables are there."""
    with rows_of(store).write() as connection:
        assert connection is not None
        connection.execute("DELETE FROM checkpoints")


REBUILDING = [
    made_and_empty, filled_and_not_shown, shown_and_old_there, old_half_emptied,
    checkpoint_of_one, no_checkpoint,
]  # fmt: skip


def one_generation(store: LogStore) -> bool:
    """Whether each table of each view is there once."""
    names = [
        str(name)
        for (name,) in rows_of(store).query("SELECT name FROM sqlite_master WHERE type = 'table'")
        if re.fullmatch(r"\w+_v\d+", str(name))
    ]
    tables = [table.name for view in store._rows.projector.views for table in view.tables]
    return sorted(name.rpartition("_v")[0] for name in names) == sorted(tables)


# -- the tests


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_costs_no_more_than_what_was_cut(tmp_path: Path, kind: Kind) -> None:
    """Wherever its last write is cut, a store holds every event before the cut and nothing of what
    is behind it, lists right, and is written on."""
    assert cut(asked_for(), tmp_path, kind).faults > 50


@pytest.mark.parametrize("kind", KINDS)
def test_ten_rounds_of_cuts_and_garbage(tmp_path: Path, kind: Kind) -> None:
    """Cut, soiled and written to in turns, a store keeps what stood before each cut."""
    assert cut_and_soil(asked_for(), tmp_path, kind).faults >= 10


def test_a_last_write_without_its_first_page(tmp_path: Path) -> None:
    """A last write whose end reached the disk and whose beginning did not, as the loss of power may
    leave it, is no beginning of an append: nobody writes behind it until the log is repaired, and
    everything before it is there."""
    place = Place("jsonl", tmp_path)
    journal = Journal(place)
    with journal.open() as store:
        journal.write(store, 1)
        begin = growing(place).stat().st_size
        store.save_error(ValueError("x" * 9_000))
    with growing(place).open("r+b") as file:
        file.seek(begin)
        file.write(b"\0" * (4_096 - begin % 4_096))
    journal.appends.pop()
    with closing(LocalFileBackend(place.path)) as log:
        with pytest.raises(LogDamaged, match=f"from byte {begin} on"):
            log.append([event("s", 1)])
        assert repair(log).mended[0].lost == 1
    opens_right(place, journal.expected(), Figures("first page"))


@pytest.mark.parametrize("state", ROLLING, ids=lambda state: state.__name__)
def test_between_two_segments(tmp_path: Path, state: Callable[[Path], None]) -> None:
    """Wherever a process died that was about to begin a segment, the log is whole and goes on."""
    place = full(tmp_path)
    before = without_positions(place.backend().read())
    state(place.path)
    if state is first_segment_empty:
        before = []
    opens_right(place, before, Figures(state.__name__))
    opens_right(place, without_positions(place.backend().read()), Figures(state.__name__))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("state", REBUILDING, ids=lambda state: state.__name__)
def test_between_two_generations(
    tmp_path: Path, kind: Kind, state: Callable[[LogStore], None]
) -> None:
    """Wherever a rebuild was stopped, a store opens, lists right and is written on, and the next
    rebuild leaves each table once."""
    place = Place(kind, tmp_path)
    journal = Journal(place)
    with journal.open() as store:
        journal.write(store, 5)
        store.list_sessions()
        state(store)
    opens_right(place, journal.expected(), Figures(state.__name__))
    with place.store() as store:
        store.rebuild()
        assert one_generation(store)
        assert store.rebuild(check=True).difference is None
        assert len(store.list_sessions()) == 6


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("behind", ["sessions", "tags", "costs"])
def test_a_view_that_is_behind_the_others(tmp_path: Path, kind: Kind, behind: str) -> None:
    """Views that stand at different places of the log each get every event once."""
    journal = Journal(Place(kind, tmp_path))
    with journal.open() as store:
        journal.write(store, 3)
        store.list_sessions()
        (view,) = (view for view in store._rows.projector.views if view.name == behind)
        at = store._rows.projector.checkpoints()[behind]
        names = [generation_table(table.name, at.generation) for table in view.tables]
        rows = {name: rows_of(store).query(f"SELECT * FROM {name}") for name in names}
        journal.write(store, 2)
        store.list_sessions()
        with rows_of(store).write() as connection:
            assert connection is not None
            for name, then in rows.items():
                connection.execute(f"DELETE FROM {name}")
                for row in then:
                    marks = ", ".join("?" * len(row))
                    connection.execute(f"INSERT INTO {name} VALUES ({marks})", row)
            connection.execute(
                "UPDATE checkpoints SET position = ? WHERE view = ?", (at.position, behind)
            )
    opens_right(journal.place, journal.expected(), Figures(behind))
