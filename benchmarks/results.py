"""What was measured, for people: a table in the terminal, or a page with charts."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from benchmarks import charts
from benchmarks.machine import Machine, described
from benchmarks.measure import Figure, in_digits

HEADINGS = ("", "median", "quartiles", "unit", "bar", "", "in the same rounds")
_PEERS = "beside its peers"


def table(figures: Sequence[Figure]) -> Table:
    """The figures as a table for the terminal."""
    shown = Table(box=SIMPLE_HEAD)
    for heading in HEADINGS:
        shown.add_column(heading, justify="right" if heading == "median" else "left")
    area = ""
    for one in figures:
        if one.area != area:
            area = one.area
            shown.add_section()
            shown.add_row(Text(area, "bold"))
        *cells, met, beside = _cells(one)
        colour = {"met": "green", "missed": "bold red"}.get(met, "")
        shown.add_row(Text(f"  {one.what}"), *cells, Text(met, colour), beside)
    return shown


def _cells(one: Figure) -> tuple[str, ...]:
    """All but the name, under their headings."""
    value = one.value
    if math.isnan(value.median):
        return "", "", "", "", "not measured", one.beside
    bar = "" if one.bar is None else f"{one.bar.side} {in_digits(one.bar.limit)}"
    met = {None: "", True: "met", False: "missed"}[one.met]
    spread = f"{in_digits(value.low)} .. {in_digits(value.high)}"
    return in_digits(value.median), spread, one.unit, bar, met, one.beside


def write_json(path: Path, machine: Machine, figures: Sequence[Figure], *, quick: bool) -> None:
    """The figures for programs; what was not measured has null for a value."""
    found = [msgspec.to_builtins(one) | {"met": one.met} for one in figures]
    result = {"machine": machine, "quick": quick, "figures": found}
    path.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")


def write_markdown(path: Path, machine: Machine, figures: Sequence[Figure], *, quick: bool) -> None:
    """The figures for readers, and beside the file the charts that it shows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = _charts(figures)
    lines = [
        "# Results",
        "",
        f"{machine.date}, `python -m benchmarks{' --quick' if quick else ''}`.",
        f"{described(machine)}.",
        "",
        "Each figure is the median over the rounds, with the quartiles; a ratio is taken within a",
        "round. Timings differ from machine to machine, ratios less so. `missed` is a bar that we",
        "set ourselves and did not reach here.",
        "",
    ]
    for name, svg in drawn.items():
        path.with_name(f"{name}.svg").write_text(svg, encoding="utf-8")
        lines += [f"![{name.replace('-', ' ')}]({name}.svg)", ""]
    lines += _tables(figures)
    path.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


def _tables(figures: Sequence[Figure]) -> Iterator[str]:
    area = ""
    for one in figures:
        if one.area != area:
            area = one.area
            yield from ("", f"## {area[:1].upper()}{area[1:]}", "")
            yield f"| {' | '.join(HEADINGS)} |"
            yield f"|{' --- |' * len(HEADINGS)}"
        cells = (one.what, *_cells(one))
        yield f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _short(what: str) -> str:
    """The filter of a list, without what was found."""
    return re.sub(r"^.*?: |, \d[\d,]* sessions or more$| \([\d,]+ found\)$", "", what)


def _charts(figures: Sequence[Figure]) -> dict[str, str]:
    """By the name of the file without its ending."""
    ratios = [
        (one.what, one.value.median if one.unit == "x its rate" else 1 / one.value.median)
        for one in figures
        if one.area.startswith(_PEERS) and one.unit.startswith("x its") and one.value.median > 0
    ]
    lists = [
        (f"{_short(one.what)}, {one.area.removeprefix('read, ')}", one.value.median)
        for one in figures
        if one.area.startswith("read") and one.what.startswith("list_sessions")
    ]
    drawn: dict[str, str] = {}
    if ratios:
        title = "How many times as fast as its peers lllm is (below 1: slower)"
        drawn["beside-peers"] = charts.bars(title, ratios, "x", better="more")
    if lists:
        drawn["lists"] = charts.bars("list_sessions(limit=50)", lists, "ms", better="less")
    return drawn
