"""Shows sessions in notebooks: as small HTML that needs nothing else, and as text elsewhere.

Jupyter calls `_repr_html_` of the last value of a cell
(https://ipython.readthedocs.io/en/stable/config/integrating.html). Everything that a session says
is escaped; there is no script, no image and no address in the HTML.
"""

from __future__ import annotations

import html
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from lllm.projections.session.annotations import Annotation
from lllm.projections.session.step_names import numbered_calls, step_name

if TYPE_CHECKING:
    from lllm.projections.session.call_session import InvokeTrace, TacticCallSession

_SIGNS = {"success": "✓", "failure": "✗", "running": "●", "interrupted": "◌"}
_LONG, _SHORT = 2_000, 200  # characters of a text, and of one in a line
_STEPS = 200  # attempts that are shown
_BOX = "max-width:60em;border-left:3px solid #888;padding-left:10px;line-height:1.4"
_TEXT = "white-space:pre-wrap;overflow-wrap:anywhere;margin:2px 0;text-align:left"


class _Line(NamedTuple):
    """A line of what happened: how deep it stands, and what it says."""

    depth: int
    text: str


def escaped(value: object, most: int = _SHORT) -> str:
    """Write any value as HTML text in which every character is seen.

    Args:
        value: The value; one that is no text is written as JSON.
        most: The number of characters to show; how many are left out is said.
    """
    return html.escape(visible_text(value, most))


def visible_text(value: object, most: int = _SHORT) -> str:
    """Write any value as text; characters that hide or turn text around are escapes.

    Args:
        value: The value; one that is no text is written as JSON.
        most: The number of characters to show; how many are left out is said.
    """
    text = value if isinstance(value, str) else _json(value)
    left = len(text) - most
    shown = text if left <= 0 else f"{text[:most]}… ({left:,} characters more)"
    return "".join(
        one if one.isprintable() or one == "\n" else one.encode("unicode_escape").decode()
        for one in shown
    )


def _json(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, indent=1, default=str)
    except (ValueError, RecursionError):
        return str(value)


def session_html(
    session: TacticCallSession,
    tags: Mapping[str, str] | None = None,
    notes: Iterable[Annotation] = (),
) -> str:
    """Make the HTML of a session: task, result, cost, and its steps, which unfold.

    Args:
        session: The session.
        tags: Its tags; None for none.
        notes: What was judged of it.
    """
    head = f"{_SIGNS[session.state]} {session.state}"
    parts = [f"<div><b>{head}</b> {escaped(session.tactic_path)}</div>"]
    parts += [
        f'<div><small>{name}</small><pre style="{_TEXT}">{escaped(value, _LONG)}</pre></div>'
        for name, value in _said(session)
    ]
    parts.append(f"<div>{html.escape(' · '.join(_figures(session)))}</div>")
    labels = [f"{name}={value}" for name, value in (tags or {}).items()]
    labels += [f"✎ {visible_text(note.name)}={visible_text(note.value)}" for note in notes]
    if labels:
        parts.append(f"<div><small>{escaped(' · '.join(labels), _LONG)}</small></div>")
    lines = list(_lines(session))
    steps = "".join(
        f'<div style="padding-left:{min(line.depth, 8)}em">{escaped(line.text, 2 * _SHORT)}</div>'
        for line in lines
    )
    if lines:
        parts.append(f"<details><summary>what happened</summary>{steps}</details>")
    parts.append(f"<small>{escaped(session.session_id)}</small>")
    return f'<div style="{_BOX}">{"".join(parts)}</div>'


def table_html(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Make an HTML table of texts.

    Args:
        heads: The heads of the columns.
        rows: The values of each row.
    """
    cell = f'<td style="text-align:left;vertical-align:top;{_TEXT}">'
    top = "".join(f'<th style="text-align:left">{escaped(head)}</th>' for head in heads)
    body = "".join(
        "<tr>" + "".join(f"{cell}{escaped(value)}</td>" for value in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def show(session: TacticCallSession, shown: str) -> None:
    """Show a session: in a notebook as HTML, else on stdout as text.

    Args:
        session: The session.
        shown: Its HTML.
    """
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if ipython is not None and getattr(shell, "kernel", None) is not None:
        ipython.display.display({"text/html": shown}, raw=True)
        return
    sys.stdout.write("\n".join(_text_lines(session)) + "\n")


def _text_lines(session: TacticCallSession) -> Iterator[str]:
    yield f"{_SIGNS[session.state]} {session.state} {visible_text(session.tactic_path)}"
    for name, value in _said(session):
        yield f"{name}: {visible_text(value, _LONG)}"
    yield " · ".join(_figures(session))
    for line in _lines(session):
        yield f"{'  ' * (line.depth + 1)}{visible_text(line.text, 2 * _SHORT)}"
    yield session.session_id


def _said(session: TacticCallSession) -> Iterator[tuple[str, object]]:
    if session.task is not None:
        yield "asked", session.task
    if session.error is not None:
        yield "failed", f"{session.error.type.rpartition('.')[2]}: {session.error.message}"
    elif session.delivery is not None:
        yield "answered", session.delivery


def _figures(session: TacticCallSession) -> Iterator[str]:
    cost = session.total_cost
    yield _money(cost.cost, cost.unpriced_calls)
    if session.elapsed is not None:
        yield _seconds(session.elapsed)
    yield f"{cost.prompt_tokens:,} → {cost.completion_tokens:,} tokens"
    left_out = session.missing_events + session.unknown_events
    if left_out:
        yield f"{left_out:,} events missing or unknown"


def _money(amount: float, unpriced: int) -> str:
    """Format dollars; what is unknown is said, and is never $0."""
    if unpriced and not amount:
        return f"{unpriced:,} unpriced"
    text = f"${amount:,.2f}" if amount >= 100 else f"${amount:.6f}" if amount else "$0"
    return f"{text} + {unpriced:,} unpriced" if unpriced else text


def _seconds(nanoseconds: int) -> str:
    return f"{nanoseconds / 1e9:,.1f} s" if nanoseconds >= 1e9 else f"{nanoseconds / 1e6:,.0f} ms"


def _lines(session: TacticCallSession) -> Iterator[_Line]:
    """Iterate over what happened; of very many lines, the first, and how many there are more."""
    left = 0
    for number, line in enumerate(_all_lines(session)):
        if number < _STEPS:
            yield line
        else:
            left += 1
    if left:
        yield _Line(0, f"… {left:,} lines more; `lllm show` has all")


def _all_lines(top: TacticCallSession) -> Iterator[_Line]:
    waiting = [(top, 0)]
    while waiting:  # a log may hold more levels than a stack
        session, depth = waiting.pop()
        if session is not top:
            yield _Line(depth - 1, f"{_SIGNS[session.state]} {session.tactic_path}")
        for trace in session.invoke_traces:
            yield _Line(depth, _attempt(trace))
        names = numbered_calls(chain.from_iterable(session.agent_sessions.values()))
        for calls in session.agent_sessions.values():
            for call in calls:
                yield _Line(depth, f"{_SIGNS[call.state]} agent {names[call.call]}")
                for step, traces in call.invoke_traces.items():
                    yield from (_Line(depth + 1, _attempt(trace)) for trace in traces)
                    for tool in call.interrupts.get(step, []):
                        yield _Line(depth + 2, f"{_SIGNS[tool.state]} {tool.name}")
        below = [one for some in session.sub_tactic_sessions.values() for one in some]
        waiting += [(one, depth + 1) for one in reversed(below)]


def _attempt(trace: InvokeTrace) -> str:
    name = step_name(trace.request, trace.step, trace.attempt, trace.state)
    parts = [f"{_SIGNS[trace.state]} {name}", trace.model or trace.asked]
    if trace.elapsed is not None:
        parts.append(_seconds(trace.elapsed))
    if trace.price is not None:
        parts.append(_money(trace.cost.cost, trace.cost.unpriced_calls))
    if trace.error is not None:
        parts.append(f"{trace.error.type.rpartition('.')[2]}: {trace.error.message}")
    elif trace.content is not None and trace.content.text:
        parts.append(trace.content.text)
    return " · ".join(parts)
