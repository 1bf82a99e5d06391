"""The page of one session: task, result, cost, and each step."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from lllm.cli.render.session_tree import attempts, family
from lllm.events.errors import SessionNotFound
from lllm.events.model import Part
from lllm.projections.session.call_session import TacticCallSession
from lllm.store.log_store import session_host
from lllm.web.fork_edits import fork_edits
from lllm.web.images import image_of
from lllm.web.pages import FRAGMENT, Later, StorePages
from lllm.web.transcript import Block, Opening, Step, Transcript, result_of

_LLLM = Path(__file__).parents[1].as_posix()  # the folder of the package
PAGE = 100  # steps of one page
_IN_PAGE = 100_000  # characters of texts in a page; the steps behind are fetched when unfolded
_LONG = 500  # calls; the page of a session with more is sent in two parts
CUT = 4_000  # characters of one text on the page of its session


def session_page(pages: StorePages, request: Request) -> Response:
    """Answer with one session.

    The heading of a long session is sent before its events are read, which can take a second.

    Args:
        pages: Renders the answer, and has the store.
        request: The HTTP request. A shortened id is redirected to the whole id.
    """
    given = request.path_params["session_id"]
    session_id = pages.store.find_id(given)
    if session_id != given:
        return RedirectResponse(f"/sessions/{session_id}", 303)
    if request.headers.get(FRAGMENT) == "session":
        return pages.render(request, "_whole_session.html", **_values_for_page(pages, request))
    position = pages.position()
    row = None  # of a session that is in memory, nothing has to be waited for
    if not pages.opened.is_kept(session_id):
        row = session_host(pages.store).reader.find(session_id, below=False).row
    if row is None or (row.calls or 0) < _LONG:
        values = _values_for_page(pages, request)
        return pages.render(request, "session.html", position=position, **values)
    return pages.stream(
        request,
        "session.html",
        Later("_session.html", lambda: _values_for_page(pages, request)),
        opening=Opening(session_id, row.state, row.tactic, row.task),
        position=position,
        calls=row.calls,
    )


def _values_for_page(pages: StorePages, request: Request) -> dict[str, object]:
    """Load a session, and collect what the template uses for one page of it."""
    transcript = pages.opened.open(request.path_params["session_id"])
    number = _page_number(request, len(transcript.steps))
    return values_of(transcript, _page_of(transcript, number)) | {
        "edits": fork_edits(pages.store, transcript),
        "versions": session_host(pages.store).reader.definition_versions(transcript.definitions),
        "page": number,
        "last_page": max(1, -(-len(transcript.steps) // PAGE)),
    }


def values_of(transcript: Transcript, blocks: list[Block]) -> dict[str, object]:
    """Collect the values that the template of a session uses.

    Args:
        transcript: The session to show.
        blocks: The parts of the session that this page shows.
    """
    record, start = transcript.record, transcript.start
    session = record.session
    begin, whole = _span(session)
    return {
        "opening": transcript.opening,
        "record": record,
        "session": session,
        "blocks": blocks,
        "steps": transcript.steps,
        "dearest": transcript.dearest,
        "notes": transcript.notes,
        "failed": [step for step in transcript.steps if step.trace.error is not None],
        "wasteful": [step for step in transcript.steps if step.wasted],
        "retried": [step for step in transcript.steps if step.retry is not None],
        "session_count": transcript.sessions,
        "models": _models(session),
        "parent": start.ancestors[-1].session_id if start.ancestors else None,
        "origin": start.origin,
        "own_line": _own_line(record.traceback),
        "begin": begin,
        "whole": whole,
        "result_of": result_of,
        "single": False,
        "steps_of_page": PAGE,
        "cut": CUT,
        "in_page": _keys_in_page(blocks),
    }


def step_page(pages: StorePages, request: Request) -> Response:
    """Answer with one step, with up to 200,000 characters of each text.

    Args:
        pages: Renders the answer, and has the store.
        request: The HTTP request. If it has the header `FRAGMENT`, only the inside of the step is
            sent.
    """
    transcript, step = _found_step(pages, request)
    record = transcript.record
    only_part = request.headers.get(FRAGMENT) == "step"
    return pages.render(
        request,
        "_step_body.html" if only_part else "step.html",
        record=record,
        session=record.session,
        title=transcript.opening.title,
        step=step,
        notes=transcript.notes,
        edits=fork_edits(pages.store, transcript),
        result_of=result_of,
        single=False,
        cut=200_000,
    )


def step_text(pages: StorePages, request: Request) -> Response:
    """Answer with one complete text of a step, as plain text.

    Args:
        pages: Renders the answer, and has the store.
        request: The HTTP request, whose parameter `of` is "answer", "sent.N", "arguments.N" or
            "result.N".
    """
    _, step = _found_step(pages, request)
    texts = _texts(step)
    wanted = request.query_params.get("of", "")
    if wanted not in texts:
        raise SessionNotFound(f"This step has no text {wanted!r}; it has {', '.join(texts)}.")
    return PlainTextResponse(texts[wanted].encode("utf-8", "backslashreplace"))


def exported_session(pages: StorePages, request: Request) -> Response:
    """Answer with the export of a session, as `lllm export` writes it.

    Args:
        pages: Renders the answer, and has the store.
        request: The HTTP request, whose path has the session's id.
    """
    session_id = pages.store.find_id(request.path_params["session_id"])
    form = request.path_params["format"]
    text = pages.store.export_session(session_id, form)
    media = "application/json" if form == "json" else "application/x-ndjson"
    return Response(text.encode("utf-8", "backslashreplace"), media_type=media)


def _found_step(pages: StorePages, request: Request) -> tuple[Transcript, Step]:
    session_id = pages.store.find_id(request.path_params["session_id"])
    owner, number = request.path_params["owner"], request.path_params["request_number"]
    transcript = pages.opened.open(session_id)
    for step in transcript.steps:
        if step.session_id == owner and step.trace.request == number:
            return transcript, step
    raise SessionNotFound(f"The session {session_id} has no request {number} of {owner!r}.")


def _texts(step: Step) -> dict[str, str]:
    """Return the texts of a step by their names."""
    texts = {f"sent.{place}": one.text for place, one in enumerate(step.exchange.sent)}
    if step.trace.content is not None:
        texts["answer"] = step.trace.content.text
        for place, call in enumerate(step.trace.content.tool_calls):
            texts[f"arguments.{place}"] = call.arguments
            result = result_of(step, place)
            if result is not None:
                texts[f"result.{place}"] = result.text
    for place, tool in enumerate(step.tools):
        if tool.told is not None:
            texts[f"result.{place}"] = tool.told
    return texts


def _parts(step: Step) -> Iterator[Part]:
    contents = [*step.exchange.sent, *filter(None, step.exchange.results)]
    if step.trace.content is not None:
        contents.append(step.trace.content)
    for content in contents:
        yield from content.parts


def _image_length(part: Part) -> int:
    return 0 if part.data is None else len(image_of(part) or "")


def _page_number(request: Request, steps: int) -> int:
    number = int(request.query_params.get("page", "1"))
    return max(1, min(number, -(-steps // PAGE) or 1))


def _page_of(transcript: Transcript, number: int) -> list[Block]:
    """Return the blocks of one page: its steps, and the headings around them."""
    begin, end = (number - 1) * PAGE, number * PAGE
    chosen: list[Block] = []
    seen = 0
    for block in transcript.blocks:
        if isinstance(block, Step):
            seen += 1
            if begin < seen <= end:
                chosen.append(block)
        elif begin <= seen < end or (seen == end and seen == len(transcript.steps)):
            chosen.append(block)
    return chosen


def _keys_in_page(blocks: list[Block]) -> set[str]:
    """Return the keys of the steps whose texts the page has; others are fetched when unfolded."""
    left = _IN_PAGE
    keys = set()
    for unfolded in (True, False):
        for block in blocks:
            if isinstance(block, Step) and block.unfolded is unfolded:
                left -= sum(min(len(text), CUT) for text in _texts(block).values())
                left -= sum(map(_image_length, _parts(block)))
                if left >= 0:
                    keys.add(block.key)
    return keys


def _span(session: TacticCallSession) -> tuple[int, int]:
    """Return the start of a session, and the nanoseconds until everything in it has ended."""
    end = session.started + (session.elapsed or 0)
    for one in family(session):
        end = max(end, one.started + (one.elapsed or 0))
        for trace in attempts(one):
            end = max(end, trace.started + (trace.elapsed or 0))
    return session.started, max(1, end - session.started)


def _models(session: TacticCallSession) -> list[str]:
    names = {trace.model or trace.asked: None for one in family(session) for trace in attempts(one)}
    return list(names)


def _is_library(path: str) -> bool:
    """True for files of Python, of installed packages and of lllm, but not for lllm's demo."""
    if path == f"{_LLLM}/demo.py" or path.endswith("/site-packages/lllm/demo.py"):
        return False
    return "/site-packages/" in path or "/lib/python" in path or path.startswith(f"{_LLLM}/")


def _own_line(traceback: str | None) -> str | None:
    """Return the last line of a traceback in the user's own code, with the line below it."""
    if not traceback:
        return None
    lines = traceback.splitlines()
    found = None
    for number, line in enumerate(lines):
        stripped = line.strip()
        if not stripped.startswith('File "'):
            continue
        path = stripped[6:].partition('"')[0].replace("\\", "/")
        if _is_library(path):
            continue
        below = lines[number + 1].strip() if number + 1 < len(lines) else ""
        found = f"{stripped}: {below}" if below and not below.startswith("File ") else stripped
    return found
