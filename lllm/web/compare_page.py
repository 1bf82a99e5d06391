"""The page that compares sessions: their first differences, the figures and messages of each."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice, zip_longest
from typing import TYPE_CHECKING

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from lllm.web.pages import StorePages
from lllm.web.session_titles import session_titles
from lllm.web.transcript import Step

if TYPE_CHECKING:
    from lllm.replay.session_diff import SessionDiff

FIGURES = (
    ("sessions", "sessions"), ("agent calls", "agent_calls"), ("messages", "messages"),
    ("model calls", "calls"), ("failed model calls", "failed_calls"), ("tools", "tools"),
    ("tokens in", "prompt_tokens"), ("tokens out", "completion_tokens"),
    ("unpriced calls", "unpriced_calls"),
)  # fmt: skip
LETTERS = "ABCDEFGH"
_LISTED = 20  # sessions to choose from
_ROWS = 100  # steps that are shown side by side


class StepText(msgspec.Struct, frozen=True):
    """What one step of a session said, for a row of the comparison.

    Attributes:
        address: The address of the step.
        name: The name of the step.
        text: The answer with its tool calls, or the error.
        failed: True if the attempt failed.
    """

    address: str
    name: str
    text: str
    failed: bool


def compare_page(pages: StorePages, request: Request) -> Response:
    """Answer with the comparison of the sessions `a` and `b`, or of two to eight named `id`.

    Args:
        pages: Renders the answer, and has the store.
        request: The HTTP request. Unless it names two sessions, the page lists some to choose from.

    Raises:
        ValueError: More than eight sessions are named.
    """
    given = [request.query_params.get(name, "") for name in ("a", "b")]
    given += sorted(request.query_params.getlist("id"))  # the older one first
    asked = list(dict.fromkeys(filter(None, (one.strip() for one in given))))
    both = len(asked) == 1 and len(list(filter(None, given))) == 2  # a session beside itself
    ids = [pages.store.find_id(one) for one in (asked * 2 if both else asked)]
    if len(ids) > len(LETTERS):
        raise ValueError(f"{len(ids)} sessions are checked; at most {len(LETTERS)} are compared.")
    found = [pages.store.diff(ids[0], other) for other in ids[1:]]
    return pages.render(
        request,
        "compare.html",
        ids=ids,
        titles=session_titles(pages.store, ids),
        found=found,
        sides=_sides(found),
        listed=[] if found else pages.store.list_sessions(limit=_LISTED),
        figures=FIGURES,
        letters=LETTERS,
        **(_side_by_side(pages, ids) if found else {}),
    )


def _sides(found: Sequence[SessionDiff]) -> list[object]:
    return [found[0].a, *(one.b for one in found)] if found else []


def _side_by_side(pages: StorePages, ids: Sequence[str]) -> dict[str, object]:
    """Return the first rows of steps, one column for each session, and the number of all rows."""
    columns = []
    most = 0
    for session_id in ids:
        steps = pages.opened.open(session_id).steps
        most = max(most, len(steps))
        columns.append([_text_of(session_id, step) for step in islice(steps, _ROWS)])
    rows = list(zip_longest(*columns))
    return {"rows": rows, "more_rows": most - len(rows)}


def _text_of(session_id: str, step: Step) -> StepText:
    trace = step.trace
    if trace.error is not None:
        text = f"{trace.error.type.rpartition('.')[2]}: {trace.error.message}"
    elif trace.content is None:
        text = "no answer yet"
    else:
        calls = [f"{call.name} {call.arguments}" for call in trace.content.tool_calls]
        text = "\n".join(filter(None, [trace.content.text, *calls]))
    address = f"/sessions/{session_id}/steps/{step.session_id}/{trace.request}"
    return StepText(address, step.full_name, text, trace.error is not None)
