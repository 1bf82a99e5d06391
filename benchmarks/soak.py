"""Hours of a log's life: `python -m benchmarks soak --minutes N`.

Two processes write without end, one asks questions, one tails, one makes all rows anew now and
then. At the end every event that was written must be in the log and have been seen by the tail, and
the rows must be what the events say. How fast it all was, the longest waits, and the memory of each
process are shown over time; the last third is held against the first.
"""

from __future__ import annotations

import multiprocessing
import queue
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks.charts import Panel, lines
from benchmarks.generate import fill
from benchmarks.measure import in_digits
from benchmarks.soak_workers import Ended, Kind, News, Place, Role, Sample, opened, work
from lllm import LogStore
from lllm.events.integrity.verify import verify

if TYPE_CHECKING:
    from multiprocessing.queues import Queue

_ROLES: tuple[tuple[Role, int], ...] = (
    ("writer", 1), ("writer", 2), ("reader", 1), ("tail", 1), ("rebuilder", 1),
)  # fmt: skip
# One after another, so that the tail sees the last event.
_STOPPED: tuple[tuple[Role, ...], ...] = (("writer",), ("reader", "rebuilder"), ("tail",))
_AT_FIRST = 500  # sessions that the log begins with
_SAMPLES = 120  # in a soak, about
_ROWS = 20  # of the table
_WIDTH = 170  # of the table in a file or a pipe
_PATIENCE = 120.0  # seconds for a process to end
_Take = Callable[[Sample], float]


class Trend(msgspec.Struct, frozen=True):
    """A measure in the first third of a soak and in the last, and whether it stayed flat."""

    what: str
    first: float
    last: float
    flat: bool


class Soaked(msgspec.Struct, frozen=True):
    """What a soak found.

    written: events, by the writers' count. wrong: what was lost or failed, empty where nothing was.
    """

    kind: Kind
    minutes: float
    written: int
    wrong: list[str]
    trends: list[Trend]
    samples: list[Sample]


@click.command("soak")
@click.option("--minutes", type=click.FloatRange(min=0.05), default=10.0, show_default=True)
@click.option("--log", "kind", type=click.Choice(["sqlite", "jsonl"]), default="sqlite")
@click.option("--svg", "svg_file", type=click.Path(path_type=Path), help="Write the chart.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the samples.")
@click.pass_context
def soak_command(
    context: click.Context,
    minutes: float,
    kind: Kind,
    svg_file: Path | None,
    json_file: Path | None,
) -> None:
    """Write, read, tail and rebuild for a while; exits 1 where anything was lost or failed."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    with (
        tempfile.TemporaryDirectory(prefix="lllm-soak-") as folder,
        console.status(f"soaking for {minutes:g} minutes"),
    ):
        found = soak(Path(folder) / "log", kind, minutes)
    if json_file is not None:
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2))
    if svg_file is not None:
        svg_file.write_text(chart(found), encoding="utf-8")
    console.print(_table(found))
    for trend in found.trends:
        verdict = "flat" if trend.flat else "[bold]not flat[/bold]"
        console.print(
            f"{trend.what}: {in_digits(trend.first)} -> {in_digits(trend.last)}, {verdict}"
        )
    for wrong in found.wrong:
        console.print(wrong, style="red", markup=False)
    console.print(f"{found.written:,} events written, {len(found.wrong)} things went wrong")
    context.exit(1 if found.wrong else 0)


def soak(path: Path, kind: Kind, minutes: float) -> Soaked:
    """Run one on a new log at `path`."""
    with closing(opened(kind, path)) as log:
        before = fill(log, _AT_FIRST).events
        place = Place(kind, path, log.head())
    every = max(1.0, minutes * 60 / _SAMPLES)
    began = time.time()
    heard = _run(place, began + minutes * 60, every)
    written = sum(one.count for one in heard.ended if one.role == "writer")
    seen = sum(one.count for one in heard.ended if one.role == "tail")
    wrong = heard.wrong
    if not wrong:
        wrong = [*_lost(place, before + written)]
        if seen != written:
            wrong.append(f"{written:,} events were written, and the tail saw {seen:,}")
    samples = [msgspec.structs.replace(one, at=one.at - began) for one in heard.samples]
    return Soaked(kind, minutes, written, wrong, trends(samples, minutes * 60), samples)


def _run(place: Place, until: float, every: float) -> _Heard:
    context = multiprocessing.get_context("spawn")
    news: Queue[News] = context.Queue()
    stops = {role: context.Event() for role, _ in _ROLES}
    running: list[tuple[Role, SpawnProcess]] = []
    for role, number in _ROLES:
        arguments = (role, number, place, every, news, stops[role])
        process = context.Process(target=work, args=arguments)
        process.start()
        running.append((role, process))
    heard = _Heard(news)
    heard.until(lambda: time.time() >= until or bool(heard.wrong))
    for roles in _STOPPED:
        for role in roles:
            stops[role].set()
        heard.end_of([process for role, process in running if role in roles])
    return heard


class _Heard:
    """What the processes have told so far."""

    def __init__(self, news: Queue[News]) -> None:
        self.samples: list[Sample] = []
        self.ended: list[Ended] = []
        self.wrong: list[str] = []
        self._news = news

    def end_of(self, processes: Sequence[SpawnProcess]) -> None:
        """Listen until processes have ended that were told to; kill those that don't."""
        latest = time.time() + _PATIENCE
        self.until(lambda: time.time() > latest or not any(one.is_alive() for one in processes))
        self.until(self._news.empty)
        for process in processes:
            if process.is_alive():
                process.kill()
            process.join()
            if process.exitcode != 0:
                self.wrong.append(f"a process ended with {process.exitcode}")

    def until(self, enough: Callable[[], bool]) -> None:
        """Listen until something is so."""
        while not enough():
            try:
                one = self._news.get(timeout=0.2)
            except queue.Empty:
                continue
            if isinstance(one, Sample):
                self.samples.append(one)
            elif isinstance(one, Ended):
                self.ended.append(one)
            else:
                self.wrong.append(f"{one.role} {one.number} failed:\n{one.why}")


def _lost(place: Place, expected: int) -> Iterator[str]:
    """What the log lacks, and where its rows are not what its events say."""
    with LogStore(opened(place.kind, place.path)) as store:
        found = verify(store.backend)
        if found.events != expected:
            yield f"{expected:,} events were written, and the log has {found.events:,}"
        yield from (f"position {damage.position}: {damage.what}" for damage in found.damages)
        store.list_sessions(limit=1)
        difference = store.rebuild(check=True).difference
        if difference is not None:
            yield f"the rows are not what the events say: {difference}"


_MEASURES: tuple[tuple[str, str, Role, _Take, float], ...] = (
    # name, unit, whose, what, and the factor that it may rise by and still be flat
    ("events written", "/s", "writer", lambda one: one.count / one.seconds, 1.1),
    ("p99 of an append", "ms", "writer", lambda one: one.p99, 1.5),
    ("p99 of a question", "ms", "reader", lambda one: one.p99, 1.5),
    ("p99 of the tail's delay", "ms", "tail", lambda one: one.p99, 1.5),
    ("memory of a writer", "MB", "writer", lambda one: one.resident, 1.1),
    ("memory of the reader", "MB", "reader", lambda one: one.resident, 1.1),
    ("memory of the tail", "MB", "tail", lambda one: one.resident, 1.1),
    ("memory of the rebuilder", "MB", "rebuilder", lambda one: one.resident, 1.1),
)


def trends(samples: Sequence[Sample], seconds: float) -> list[Trend]:
    """The medians of the first third and of the last."""
    found = []
    for name, unit, role, take, factor in _MEASURES:
        first = [take(one) for one in samples if one.role == role and one.at <= seconds / 3]
        last = [take(one) for one in samples if one.role == role and one.at > seconds * 2 / 3]
        if first and last:
            early, late = statistics.median(first), statistics.median(last)
            worse = early / late if unit == "/s" else late / early
            found.append(Trend(f"{name}, {unit}", early, late, worse <= factor))
    return found


def chart(found: Soaked) -> str:
    """Rate, waits and memory over time."""

    def points(role: Role, number: int, take: _Take) -> list[tuple[float, float]]:
        return [
            (one.at / 60, take(one))
            for one in found.samples
            if one.role == role and one.number == number
        ]

    names = [
        (f"{role} {number}" if role == "writer" else role, role, number) for role, number in _ROLES
    ]
    panels = [
        Panel("written", "events/s", {
            name: points(role, number, lambda one: one.count / one.seconds)
            for name, role, number in names if role == "writer"
        }),
        Panel("p99", "ms", {
            name: points(role, number, lambda one: one.p99)
            for name, role, number in names if role != "rebuilder"
        }),
        Panel("memory", "MB", {
            name: points(role, number, lambda one: one.resident) for name, role, number in names
        }),
        Panel("one rebuild", "ms", {"rebuilder": points("rebuilder", 1, lambda one: one.longest)}),
    ]  # fmt: skip
    title = f"A soak of {found.minutes:g} minutes ({found.kind}), {found.written:,} events"
    return lines(title, [panel for panel in panels if any(panel.series.values())], "minutes")


def _table(found: Soaked) -> Table:
    table = Table(box=SIMPLE_HEAD)
    for heading in ("minute", *(f"{name}, {unit}" for name, unit, *_ in _MEASURES)):
        table.add_column(heading, justify="right")
    width = found.minutes * 60 / _ROWS
    for row in range(_ROWS):
        among = [one for one in found.samples if row * width < one.at <= (row + 1) * width]
        cells = [_cell(among, role, take) for _, _, role, take, _ in _MEASURES]
        table.add_row(f"{(row + 1) * width / 60:.2g}", *cells)
    return table


def _cell(among: Sequence[Sample], role: Role, take: _Take) -> str:
    values = [take(one) for one in among if one.role == role]
    return in_digits(statistics.median(values)) if values else ""
