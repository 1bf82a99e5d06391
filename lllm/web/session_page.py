"""The page of one session: what was asked and answered, what it cost, and each of its steps."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from lllm.cli.render.session_tree import attempts, family
from lllm.events.envelope import Recorded
from lllm.events.errors import SessionNotFound
from lllm.projections.session.call_session import TacticCallSession
from lllm.store.summaries import SessionRecord
from lllm.web.pages import FRAGMENT, StorePages
from lllm.web.transcript import Block, Step, Transcript, result_of

PAGE = 300  # steps of one page
_IN_PAGE = 100_000  # characters of texts in a page; the steps behind are fetched when unfolded
CUT = 4_000  # characters of one text on the page of its session
_EVENTS = 500  # events of one page


def session_page(pages: StorePages, request: Request) -> Response:
    """Answer with one session.

    Args:
        pages: Renders the answer, and has the store to read from.
        request: The HTTP request; an id that is cut leads to the whole one.
    """
    given = request.path_params["session_id"]
    session_id = pages.store.find_id(given)
    if session_id != given:
        return RedirectResponse(f"/sessions/{session_id}", 303)
    transcript = pages.opened.open(session_id)
    number = _page_number(request, len(transcript.steps))
    blocks = _page_of(transcript, number)
    only_part = request.headers.get(FRAGMENT) == "session"
    return pages.render(
        request,
        "_session.html" if only_part else "session.html",
        **values_of(transcript, blocks),
        page=number,
        last_page=max(1, -(-len(transcript.steps) // PAGE)),
        position=pages.store.log.head(),
    )


def values_of(transcript: Transcript, blocks: list[Block]) -> dict[str, object]:
    """Collect what the template of a session shows.

    Args:
        transcript: The session.
        blocks: What of it is shown.
    """
    record, start = transcript.record, transcript.start
    session = record.session
    begin, whole = _span(session)
    return {
        "record": record,
        "session": session,
        "blocks": blocks,
        "steps": transcript.steps,
        "failed": [step for step in transcript.steps if step.trace.error is not None],
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
        "cut": CUT,
        "in_page": _keys_in_page(blocks),
    }


def step_page(pages: StorePages, request: Request) -> Response:
    """Answer with one step, whose texts are whole up to 200,000 characters each.

    Args:
        pages: Renders the answer, and has the store to read from.
        request: The HTTP request; with the header of `FRAGMENT`, the inside of the step alone.
    """
    record, step = _found_step(pages, request)
    only_part = request.headers.get(FRAGMENT) == "step"
    return pages.render(
        request,
        "_step_body.html" if only_part else "step.html",
        record=record,
        session=record.session,
        step=step,
        result_of=result_of,
        single=False,
        cut=200_000,
    )


def step_text(pages: StorePages, request: Request) -> Response:
    """Answer with one text of a step, whole, as plain text.

    Args:
        pages: Renders the answer, and has the store to read from.
        request: The HTTP request; its parameter `of` is "answer", "sent.N", "arguments.N" or
            "result.N".
    """
    _, step = _found_step(pages, request)
    texts = _texts(step)
    wanted = request.query_params.get("of", "")
    if wanted not in texts:
        raise SessionNotFound(f"This step has no text {wanted!r}; it has {', '.join(texts)}.")
    return PlainTextResponse(texts[wanted].encode("utf-8", "backslashreplace"))


def events_page(pages: StorePages, request: Request) -> Response:
    """Answer with the events of a session as they are stored, 500 a page.

    Args:
        pages: Renders the answer, and has the store to read from.
        request: The HTTP request; its address says what to show.
    """
    session_id = pages.store.find_id(request.path_params["session_id"])
    first = int(request.query_params.get("from", "1"))
    shown: list[Recorded] = []
    more = False
    for number, event in enumerate(pages.store.events(session_id), 1):
        if number < first:
            continue
        if len(shown) == _EVENTS:
            more = True
            break
        shown.append(event)
    return pages.render(
        request, "events.html", session_id=session_id, events=shown,
        first=first, next_from=first + _EVENTS if more else None, cut=2_000,
    )  # fmt: skip


def exported_session(pages: StorePages, request: Request) -> Response:
    """Answer with the export of a session, as `lllm export` writes it.

    Args:
        pages: Renders the answer, and has the store to read from.
        request: The HTTP request; its address says what to show.
    """
    session_id = pages.store.find_id(request.path_params["session_id"])
    form = request.path_params["format"]
    text = pages.store.export_session(session_id, form)
    media = "application/json" if form == "json" else "application/x-ndjson"
    return Response(text.encode("utf-8", "backslashreplace"), media_type=media)


def _found_step(pages: StorePages, request: Request) -> tuple[SessionRecord, Step]:
    session_id = pages.store.find_id(request.path_params["session_id"])
    owner, number = request.path_params["owner"], request.path_params["request_number"]
    transcript = pages.opened.open(session_id)
    for step in transcript.steps:
        if step.session_id == owner and step.trace.request == number:
            return transcript.record, step
    raise SessionNotFound(f"The session {session_id} has no request {number} of {owner!r}.")


def _texts(step: Step) -> dict[str, str]:
    """Name the texts of a step."""
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


def _page_number(request: Request, steps: int) -> int:
    number = int(request.query_params.get("page", "1"))
    return max(1, min(number, -(-steps // PAGE) or 1))


def _page_of(transcript: Transcript, number: int) -> list[Block]:
    """The blocks around the steps of one page."""
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
    """The steps whose texts are in the page; those of others are fetched when they are unfolded."""
    left = _IN_PAGE
    keys = set()
    for unfolded in (True, False):
        for block in blocks:
            if isinstance(block, Step) and block.unfolded is unfolded:
                left -= sum(min(len(text), CUT) for text in _texts(block).values())
                if left >= 0:
                    keys.add(block.key)
    return keys


def _span(session: TacticCallSession) -> tuple[int, int]:
    """The begin of a session, and the nanoseconds until the last thing in it has ended."""
    end = session.started + (session.elapsed or 0)
    for one in family(session):
        end = max(end, one.started + (one.elapsed or 0))
        for trace in attempts(one):
            end = max(end, trace.started + (trace.elapsed or 0))
    return session.started, max(1, end - session.started)


def _models(session: TacticCallSession) -> list[str]:
    names = {trace.model or trace.asked: None for one in family(session) for trace in attempts(one)}
    return list(names)


def _own_line(traceback: str | None) -> str | None:
    """The last line of a traceback that is in the user's own code, with the line below it."""
    if not traceback:
        return None
    lines = traceback.splitlines()
    found = None
    for number, line in enumerate(lines):
        stripped = line.strip()
        if not stripped.startswith('File "'):
            continue
        path = stripped[6:].partition('"')[0].replace("\\", "/")
        if "/site-packages/" in path or "/lllm/" in path or "/lib/python" in path:
            continue
        below = lines[number + 1].strip() if number + 1 < len(lines) else ""
        found = f"{stripped}: {below}" if below and not below.startswith("File ") else stripped
    return found
