"""`python -m benchmarks generate PATH`: a realistic store, for any tool that wants one."""

from __future__ import annotations

import time
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from benchmarks.generate import Generated, Shape, fill
from lllm import LocalFileBackend, LogStore, SQLiteBackend
from lllm.events.log import LogBackend


class Made(msgspec.Struct, frozen=True):
    """A store that was generated. Seconds: of its events, of its rows; bytes on disk in all."""

    generated: Generated
    events_seconds: float
    rows_seconds: float
    disk_bytes: int


@click.command("generate")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--sessions", type=click.IntRange(min=1), default=1_000, show_default=True)
@click.option(
    "--seed", type=int, default=1, show_default=True, help="The same seed, the same content."
)
@click.option(
    "--events-per-session", "shape", type=click.Choice(["usual", "small"]), default="usual",
    show_default=True, help="usual: about 25; small: 4, for stores of a million sessions.",
)  # fmt: skip
@click.option(
    "--message-bytes", type=click.IntRange(min=1),
    help="Length of a message, in the middle.  [default: 500, small: 60]",
)  # fmt: skip
@click.option(
    "--long",
    type=click.IntRange(min=0),
    default=0,
    help="How many of the sessions have about 1,000 events.",
)
@click.option("--halves", is_flag=True, help="Two more tags: region and currency, half each.")
@click.option("--jsonl", is_flag=True, help="A folder of JSONL files instead of an SQLite file.")
@click.option("--no-rows", is_flag=True, help="Leave the rows to the first reader.")
def generate_command(
    path: Path,
    sessions: int,
    seed: int,
    shape: Shape,
    message_bytes: int | None,
    long: int,
    halves: bool,
    jsonl: bool,
    no_rows: bool,
) -> None:
    """Make a store of so many top-level SESSIONS at PATH, where nothing may be yet.

    Messages, tags, tactics, failures and children are like those of a team at work; a few sessions
    are always under way at once.
    """
    if path.exists():
        raise click.ClickException(f"{path} exists already; give a path where nothing is.")
    if not path.absolute().parent.is_dir():
        raise click.ClickException(f"There is no folder {path.absolute().parent} to make it in.")
    console = Console(stderr=True)
    log = LocalFileBackend(path) if jsonl else SQLiteBackend(path)
    with _progress(console) as progress:
        events = progress.add_task("sessions", total=sessions)
        began = time.monotonic()
        generated = fill(
            log, sessions, seed=seed, shape=shape, message_bytes=message_bytes, long=long,
            halves=halves, progress=lambda begun: progress.update(events, completed=begun),
        )  # fmt: skip
        progress.update(events, completed=sessions)
        between = time.monotonic()
        if no_rows:
            log.close()
        else:
            _make_rows(log, progress)
        ended = time.monotonic()
    made = Made(generated, between - began, ended - between, _bytes_of(path))
    click.echo(_summary(path, made))


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TimeRemainingColumn(), console=console,
    )  # fmt: skip


def _make_rows(log: LogBackend, progress: Progress) -> None:
    task = progress.add_task("rows", total=None)
    with LogStore(log) as store:
        store.rebuild(
            progress=lambda reached, upto: progress.update(task, completed=reached, total=upto)
        )


def _bytes_of(path: Path) -> int:
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size


def _summary(path: Path, made: Made) -> str:
    found = made.generated
    rate = found.events / made.events_seconds
    rows = f", rows in {made.rows_seconds:.1f} s" if made.rows_seconds >= 0.1 else ""
    return (
        f"{path}: {found.roots:,} sessions, {found.sessions - found.roots:,} below them, "
        f"{found.events:,} events, {made.disk_bytes / 1e6:,.0f} MB on disk, "
        f"in {made.events_seconds:.1f} s ({rate:,.0f} events/s){rows}"
    )
