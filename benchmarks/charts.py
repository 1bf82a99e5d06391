"""Charts as SVG, made by hand: what was measured over time, and ratios side by side.

Everything is drawn in one coordinate system of pixels; text stays text. The background is white,
so that a chart reads the same on any page.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal
from xml.sax.saxutils import escape

import msgspec

from benchmarks.measure import in_digits

Point = tuple[float, float]

_WIDTH = 860
_LEFT, _RIGHT = 80, 30  # beside what is drawn
_TITLE = 50  # above the first panel
_PANEL, _GAP = 150, 58
_BAR, _BAR_GAP = 22, 12
_LETTER = 6.8  # of a label, on the average
_ACROSS = 480  # of the bars
_VALUES = 90  # right of them
_COLOURS = ("#1f6f8b", "#c8553d", "#5b8c5a", "#8e6c8a", "#b58a2a")
_INK, _GRID = "#333", "#ddd"
_TICKS = 5


class Panel(msgspec.Struct, frozen=True):
    """One set of lines with an axis of its own: what they show, its unit, and points by name."""

    name: str
    unit: str
    series: Mapping[str, Sequence[Point]]


def lines(title: str, panels: Sequence[Panel], across: str) -> str:
    """Panels below each other that share their horizontal axis.

    across: what that axis shows, with its unit. Raises ValueError where there is no point at all.
    """
    xs = [x for panel in panels for points in panel.series.values() for x, _ in points]
    if not xs:
        raise ValueError("a chart needs at least one point")
    span = (min(xs), max(max(xs), min(xs) + 1e-9))
    height = _TITLE + len(panels) * (_PANEL + _GAP)
    body = [line for number, panel in enumerate(panels) for line in _panel(panel, number, span)]
    below = _text(_WIDTH / 2, height - 12, across, anchor="middle")
    return _document(title, height, [*body, below])


def _panel(panel: Panel, number: int, span: Point) -> Iterator[str]:
    top = _TITLE + number * (_PANEL + _GAP)
    bottom = top + _PANEL
    ys = [y for points in panel.series.values() for _, y in points]
    upper = max([*ys, 0]) * 1.05 or 1.0
    across = _Scale(span, (_LEFT, _WIDTH - _RIGHT))
    up = _Scale((0.0, upper), (bottom, top))
    yield _text(_LEFT, top - 8, f"{panel.name}, {panel.unit}", bold=True)
    for tick in _ticks(0.0, upper):
        yield _line(_LEFT, up(tick), _WIDTH - _RIGHT, up(tick), _GRID)
        yield _text(_LEFT - 8, up(tick) + 4, f"{tick:,g}", anchor="end")
    for tick in _ticks(*span):
        yield _line(across(tick), bottom, across(tick), bottom + 4, _INK)
        yield _text(across(tick), bottom + 18, f"{tick:,g}", anchor="middle")
    yield _line(_LEFT, bottom, _WIDTH - _RIGHT, bottom, _INK)
    for place, (name, points) in enumerate(panel.series.items()):
        colour = _COLOURS[place % len(_COLOURS)]
        path = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in points)
        yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8"/>'
        if len(panel.series) > 1:
            right = _WIDTH - _RIGHT - 130 * (len(panel.series) - 1 - place)
            yield _text(right, top - 8, name, anchor="end", colour=colour, bold=True)


def bars(
    title: str, rows: Sequence[tuple[str, float]], unit: str, *, better: Literal["more", "less"]
) -> str:
    """Ratios as horizontal bars on a logarithmic scale, the line at 1 drawn through.

    rows: names and values above 0, drawn in their order. better: whether those above 1 or those
    below have the colour of what is well. Raises ValueError for another value, or where there is
    none.
    """
    if not rows or not all(0 < value < math.inf for _, value in rows):
        raise ValueError("a logarithmic scale needs values above 0, and at least one")
    values = [value for _, value in rows]
    low = math.floor(math.log10(min([*values, 1.0])))
    high = max(math.ceil(math.log10(max([*values, 1.0]))), low + 1)
    bottom = _TITLE + len(rows) * (_BAR + _BAR_GAP)
    left = 30 + _LETTER * max(len(name) for name, _ in rows)
    right = left + _ACROSS
    across = _Scale((low, high), (left, right))
    body = []
    for power in range(low, high + 1):
        body.append(_line(across(power), _TITLE - 6, across(power), bottom, _GRID))
        body.append(_text(across(power), bottom + 18, f"{10.0**power:,g}", anchor="middle"))
    for number, (name, value) in enumerate(rows):
        top = _TITLE + number * (_BAR + _BAR_GAP)
        begin, end = sorted((across(0.0), across(math.log10(value))))
        body.append(
            f'<rect x="{begin:.1f}" y="{top}" width="{max(end - begin, 1):.1f}" height="{_BAR}" '
            f'fill="{_COLOURS[(value > 1) != (better == "more")]}"/>'
        )
        body.append(_text(left - 10, top + _BAR - 6, name, anchor="end"))
        shown = in_digits(value)
        body.append(_text(max(end, across(0.0)) + 6, top + _BAR - 6, shown, bold=True))
    body.append(_line(across(0.0), _TITLE - 6, across(0.0), bottom, _INK))
    body.append(_text((left + right) / 2, bottom + 40, unit, anchor="middle"))
    return _document(title, bottom + 56, body, width=right + _VALUES)


class _Scale:
    """From values to pixels."""

    def __init__(self, values: Point, pixels: Point) -> None:
        self._begin = values[0]
        self._pixel = pixels[0]
        self._factor = (pixels[1] - pixels[0]) / (values[1] - values[0])

    def __call__(self, value: float) -> float:
        return self._pixel + (value - self._begin) * self._factor


def _ticks(low: float, high: float) -> Iterator[float]:
    """Round numbers between two others: 1, 2 or 5 times a power of ten apart."""
    rough = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    for number in range(math.ceil(low / step), math.floor(high / step) + 1):
        yield round(number * step, 12)


def _document(title: str, height: float, body: Sequence[str], *, width: float = _WIDTH) -> str:
    return "\n".join((
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}" font-family="sans-serif" font-size="12" '
        'role="img">',
        f"<title>{escape(title)}</title>",
        '<rect width="100%" height="100%" fill="white"/>',
        _text(20, 26, title, bold=True, size=16),
        *body,
        "</svg>\n",
    ))  # fmt: skip


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def _text(
    x: float,
    y: float,
    text: str,
    *,
    anchor: str = "start",
    colour: str = _INK,
    bold: bool = False,
    size: int = 12,
) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" '
        f'font-size="{size}"{weight}>{escape(text)}</text>'
    )
