"""Measures lllm: `python -m benchmarks [--quick] [--json FILE]`, from the root of the repository.

Everything happens in a temporary folder, which is deleted. The full run makes a store of 100,000
sessions and takes about half an hour and 5 GB of disk; `--quick` takes about a minute.
"""

from __future__ import annotations

import os
import platform
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks import appends, imports, reads, rebuilds, recording
from benchmarks.generate import fill, one_session
from benchmarks.measure import Figure
from lllm import LogStore, SQLiteBackend, __version__

SMALL = 1_000  # sessions
LARGE = 100_000
LARGE_QUICK = 5_000
_WIDTH = 170  # of the table in a file or a pipe
_LONG = 16  # agents of the session that is loaded, for about 200 events


class Machine(msgspec.Struct, frozen=True):
    """What the figures were measured on, and how busy it was with other things."""

    cpu: str
    cores: int
    system: str
    python: str
    sqlite: str
    lllm: str
    load_before: float
    date: str


@click.command()
@click.option("--quick", is_flag=True, help="Smaller stores and fewer rounds: about a minute.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures.")
def main(quick: bool, json_file: Path | None) -> None:
    """Measure what lllm costs, each figure beside the bare operation."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    machine = _machine()
    console.print(_described(machine))
    found: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="lllm-benchmarks-") as folder:
        for figure in _figures(Path(folder), quick=quick, console=console):
            found.append(figure)
    console.print(_table(found))
    if json_file is not None:
        figures = [msgspec.to_builtins(one) | {"met": one.met} for one in found]
        result = {"machine": machine, "quick": quick, "figures": figures}
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2))


def _figures(folder: Path, *, quick: bool, console: Console) -> Iterator[Figure]:
    with console.status("importing"):
        yield from imports.figures(quick=quick)
    with console.status("appending"):
        yield from appends.figures(folder, quick=quick)
    with console.status("recording sessions"):
        yield from recording.figures(folder / "recording", quick=quick)
    large = LARGE_QUICK if quick else LARGE
    for roots in (SMALL, large):
        path = folder / f"{roots}.db"
        with console.status(f"making a store of {roots:,} sessions"):
            long = _make(path, roots)
        with (
            console.status(f"reading {roots:,} sessions"),
            LogStore(SQLiteBackend(path)) as store,
        ):
            yield from reads.figures(store, path, roots, long, quick=quick)
    with console.status(f"projecting {large:,} sessions"):
        with LogStore(SQLiteBackend(path)) as store:
            yield from rebuilds.rebuilds(store, path, quick=quick)
        yield from rebuilds.weights(path, folder)
        yield from rebuilds.catching_up(path, quick=quick)


def _make(path: Path, roots: int) -> str:
    """Fill a new store; returns the id of a session of many events in it."""
    log = SQLiteBackend(path)
    try:
        fill(log, roots)
        return one_session(log, 0, agents=_LONG)
    finally:
        log.close()


def _machine() -> Machine:
    return Machine(
        cpu=_cpu(),
        cores=os.cpu_count() or 0,
        system=f"{platform.system()} {platform.release()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        sqlite=sqlite3.sqlite_version,
        lllm=__version__,
        load_before=os.getloadavg()[0],
        date=time.strftime("%Y-%m-%d"),
    )


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(": ")[2] for line in lines if "model name" in line), "unknown")


def _described(machine: Machine) -> str:
    return (
        f"lllm {machine.lllm} on {machine.cpu}, {machine.cores} cores, {machine.system}; "
        f"{machine.python}, SQLite {machine.sqlite}; load before: {machine.load_before:.1f}"
    )


def _table(figures: list[Figure]) -> Table:
    table = Table(box=SIMPLE_HEAD)
    for heading in ("", "median", "quartiles", "unit", "bar", "", "in the same rounds"):
        table.add_column(heading, justify="right" if heading == "median" else "left")
    area = ""
    for one in figures:
        if one.area != area:
            area = one.area
            table.add_section()
            table.add_row(Text(area, "bold"))
        value = one.value
        bar = "" if one.bar is None else f"{one.bar.side} {_number(one.bar.limit)}"
        met = {None: Text(), True: Text("met", "green"), False: Text("missed", "bold red")}[one.met]
        table.add_row(
            Text(f"  {one.what}"), _number(value.median),
            f"{_number(value.low)} .. {_number(value.high)}", one.unit, bar, met, one.beside,
        )  # fmt: skip
    return table


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    main()
