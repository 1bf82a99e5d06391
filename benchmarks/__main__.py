"""Measures lllm: `python -m benchmarks [--quick]`, from the root of the repository.

Everything happens in a temporary folder, which is deleted. The full run makes a store of a million
sessions and measures other tools, too; it takes 20 minutes or more, and 8 GB of disk. `--quick`
takes under two minutes: smaller stores, fewer rounds, no other tools unless they are asked for.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
from rich.console import Console

from benchmarks import (
    appends,
    audits,
    captures,
    concurrent_writers,
    disk,
    erasures,
    import_times,
    jetstream_logs,
    otel_exports,
    otel_imports,
    parquet_exports,
    peers,
    postgres_logs,
    postgres_rows,
    reads,
    rebuilds,
    recording,
    redactions,
    replays,
    results,
    scans,
    searches,
    streams,
    transcript_imports,
    viewers,
    web_browser,
    web_pages,
)
from benchmarks.generate import Shape, fill, one_session
from benchmarks.generate_command import generate_command
from benchmarks.jetstream_faults import jetstream_faults_command
from benchmarks.machine import described, this_machine
from benchmarks.measure import Figure
from benchmarks.soak import soak_command
from lllm import LogStore, SQLiteBackend

SIZES: tuple[tuple[int, Shape], ...] = ((1_000, "usual"), (100_000, "small"), (1_000_000, "small"))
SIZES_QUICK: tuple[tuple[int, Shape], ...] = ((1_000, "usual"), (5_000, "usual"))
PROJECTED, PROJECTED_QUICK = 100_000, 5_000  # sessions whose rows are built anew
SERVED, SERVED_QUICK = 1_000_000, 2_000  # small sessions that the web page shows
VIEWED, VIEWED_QUICK = 5_000, 200  # sessions that lllm and other viewers show
SEARCHED, SEARCHED_QUICK = 1_000_000, 5_000  # sessions with two messages each
SENT, SENT_QUICK = 20_000, 2_000  # sessions that are sent to an OpenTelemetry receiver
AUDITED, AUDITED_QUICK = 36_000, 1_000  # sessions; the former have a million events
_WIDTH = 170  # of the table in a file or a pipe
_LONG = 16  # agents of the session that is loaded, for about 200 events
_VENVS = Path("~/.cache/lllm-benchmarks").expanduser()


@click.group(invoke_without_command=True)
@click.option("--quick", is_flag=True, help="Smaller stores, fewer rounds: under two minutes.")
@click.option("--peers/--no-peers", "with_peers", default=None,
    help="Measure beside other tools, too; a quick run does not unless it is asked to.",
)  # fmt: skip
@click.option("--venvs", type=click.Path(path_type=Path, file_okay=False), default=_VENVS,
    show_default=True, help="Where each peer gets an environment of its own; kept, 2.5 GB.",
)  # fmt: skip
@click.option("--only", metavar="WORD", help="Only the areas with this in their name.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures.")
@click.option("--markdown", type=click.Path(path_type=Path),
    help="Write the figures as a page, and charts beside it.",
)  # fmt: skip
@click.pass_context
def main(
    context: click.Context,
    quick: bool,
    with_peers: bool | None,
    venvs: Path,
    only: str | None,
    json_file: Path | None,
    markdown: Path | None,
) -> None:
    """Measure what lllm costs, beside the bare operation and beside other tools."""
    if context.invoked_subcommand is not None:
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    machine = this_machine()
    console.print(described(machine))
    run = _Run(
        console, venvs, quick=quick, with_peers=not quick if with_peers is None else with_peers
    )
    with tempfile.TemporaryDirectory(prefix="lllm-benchmarks-") as folder:
        found = list(run.figures(Path(folder), only or ""))
    console.print(results.table(found))
    if json_file is not None:
        results.write_json(json_file, machine, found, quick=quick)
    if markdown is not None:
        results.write_markdown(markdown, machine, found, quick=quick)


main.add_command(generate_command)
main.add_command(soak_command)
main.add_command(jetstream_faults_command)


class _Run:
    """One run: what is measured, one area after another."""

    def __init__(self, console: Console, venvs: Path, *, quick: bool, with_peers: bool) -> None:
        self._console = console
        self._venvs = venvs
        self._quick = quick
        self._with_peers = with_peers

    def figures(self, folder: Path, only: str) -> Iterator[Figure]:
        """The figures of the areas that have a word in their name."""
        quick = self._quick
        areas = {
            "start": lambda: import_times.figures(folder / "start", quick=quick),
            "append": lambda: appends.figures(folder / "append", quick=quick),
            "crowd": lambda: concurrent_writers.figures(folder / "crowd", quick=quick),
            "postgres": lambda: postgres_logs.figures(quick=quick),
            "postgres rows": lambda: postgres_rows.figures(quick=quick),
            "jetstream": lambda: jetstream_logs.figures(quick=quick),
            "recording": lambda: recording.figures(folder / "recording", quick=quick),
            "redact": lambda: redactions.figures(quick=quick),
            "capture": lambda: captures.figures(folder / "capture", quick=quick),
            "replay": lambda: self._replayed(folder / "replay"),
            "stream": lambda: streams.figures(quick=quick),
            "otel": lambda: otel_imports.figures(folder / "otel", quick=quick),
            "transcripts": lambda: transcript_imports.figures(folder / "transcripts", quick=quick),
            "disk": lambda: disk.figures(folder / "disk", quick=quick),
            "peers": lambda: self._beside_peers(folder / "peers"),
            "scan": lambda: scans.figures(folder / "scan", quick=quick),
            "project": lambda: self._projected(folder / "project"),
            "read": lambda: self._read(folder / "read"),
            "parquet": lambda: parquet_exports.figures(folder / "parquet", quick=quick),
            "search": lambda: self._searched(folder / "search"),
            "web": lambda: self._served(folder / "web"),
            "viewers": lambda: self._viewed(folder / "viewers"),
            "audit": lambda: self._audited(folder / "audit"),
            "erase": lambda: self._erased(folder / "erase"),
            "otel send": lambda: self._sent(folder / "otel-send"),
        }
        wanted = [name for name in areas if only in name]
        if not wanted:
            raise click.UsageError(f"No area has {only!r} in its name: {', '.join(areas)}.")
        for name, measured in areas.items():
            if name in wanted:
                with self._console.status(name) as self._status:
                    yield from measured()

    def _beside_peers(self, folder: Path) -> Iterator[Figure]:
        if self._with_peers:
            self._venvs.mkdir(parents=True, exist_ok=True)
            yield from peers.figures(
                folder, self._venvs, quick=self._quick, told=self._status.update
            )

    def _replayed(self, folder: Path) -> Iterator[Figure]:
        yield from replays.figures(
            folder, self._venvs, quick=self._quick, with_peers=self._with_peers
        )

    def _projected(self, folder: Path) -> Iterator[Figure]:
        folder.mkdir()
        path = folder / "runs.db"
        roots = PROJECTED_QUICK if self._quick else PROJECTED
        self._make(path, roots, "usual")
        self._status.update(f"projecting {roots:,} sessions")
        with LogStore(SQLiteBackend(path)) as store:
            yield from rebuilds.rebuilds(store, path, quick=self._quick)
        yield rebuilds.memory(path, roots)
        yield from rebuilds.weights(path, folder)
        yield from rebuilds.catching_up(path, quick=self._quick)

    def _read(self, folder: Path) -> Iterator[Figure]:
        folder.mkdir()
        for roots, shape in SIZES_QUICK if self._quick else SIZES:
            path = folder / f"{roots}.db"
            long = self._make(path, roots, shape)
            self._status.update(f"reading {roots:,} sessions")
            with LogStore(SQLiteBackend(path)) as store:
                yield from reads.figures(store, path, roots, long, quick=self._quick)
        yield from import_times.listing(path, roots, quick=self._quick)

    def _searched(self, folder: Path) -> Iterator[Figure]:
        sessions = SEARCHED_QUICK if self._quick else SEARCHED
        self._status.update(f"searching {sessions:,} sessions")
        yield from searches.figures(folder, sessions, quick=self._quick)

    def _served(self, folder: Path) -> Iterator[Figure]:
        folder.mkdir()
        path = folder / "runs.db"
        sessions = SERVED_QUICK if self._quick else SERVED
        self._status.update(f"making a store of {sessions:,} sessions")
        ids = web_pages.make(path, sessions, quick=self._quick)
        self._status.update(f"the web page of {sessions:,} sessions")
        yield from web_pages.figures(path, sessions, ids, quick=self._quick)
        area = f"{web_pages.AREA}, {sessions:,} sessions"
        yield from web_browser.figures(path, area, ids, quick=self._quick)

    def _viewed(self, folder: Path) -> Iterator[Figure]:
        sessions = VIEWED_QUICK if self._quick else VIEWED
        self._status.update(f"viewers of {sessions:,} sessions")
        venvs = self._venvs if self._with_peers else None
        yield from viewers.figures(folder, venvs, sessions, rounds=3 if self._quick else 10)

    def _audited(self, folder: Path) -> Iterator[Figure]:
        sessions = AUDITED_QUICK if self._quick else AUDITED
        self._status.update(f"sealing, proving and verifying {sessions:,} sessions")
        yield from audits.figures(folder, sessions, rounds=10 if self._quick else 50)

    def _sent(self, folder: Path) -> Iterator[Figure]:
        sessions = SENT_QUICK if self._quick else SENT
        self._status.update(f"sending {sessions:,} sessions")
        yield from otel_exports.figures(folder, sessions, quick=self._quick)

    def _erased(self, folder: Path) -> Iterator[Figure]:
        sessions = PROJECTED_QUICK if self._quick else PROJECTED
        self._status.update(f"erasing some of {sessions:,} sessions")
        yield from erasures.figures(folder, sessions, quick=self._quick)

    def _make(self, path: Path, roots: int, shape: Shape) -> str:
        """Fill a new store; returns the id of a session of many events in it."""
        self._status.update(f"making a store of {roots:,} sessions")
        log = SQLiteBackend(path)
        try:
            fill(log, roots, shape=shape, halves=shape == "small")
            return one_session(log, 0, agents=_LONG)
        finally:
            log.close()


if __name__ == "__main__":
    main()
