"""Writes notes and scores that somebody makes on the page: each is an event, `session.annotated`.

A form works without JavaScript. It carries a token of its page, so that no other site's page can
make a browser send it.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from lllm.cli.annotation_values import parse_value
from lllm.store.log_store import session_host
from lllm.web.pages import StorePages
from lllm.web.posted_form import posted_body, posted_form


class NoteGiven(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A note or score, as the JSON API takes it; see `LogStore.annotate`.

    Attributes:
        name: What is judged, as "correct".
        value: The verdict: true, a number, a text; null for a comment alone.
        step: The number of the attempt in the session; null for the whole session.
        comment: Why, in words.
        by: Who says so.
    """

    name: str
    value: Any = None  # any JSON; a schema knows no `object`
    step: int | None = None
    comment: str | None = None
    by: str | None = None


async def note_from_form(pages: StorePages, request: Request) -> Response:
    """Write the note of a form, and go back to where the form stood.

    Args:
        pages: Has the store, and the token of its forms.
        request: The HTTP request; its body is the form.
    """
    _require_writable(pages)
    session_id: str = request.path_params["session_id"]
    form = await posted_form(request, pages.form_token, session_id)
    note = _note_of(form)
    await run_in_threadpool(_write, pages, session_id, note)
    top = form.get("top", "") or session_id
    page = form.get("page", "1")
    await run_in_threadpool(pages.store.find_id, top)  # ids are in no address unless they exist
    query = f"?{urlencode({'page': page})}" if page.isdecimal() and page != "1" else ""
    place = "notes" if note.step is None else f"step-{session_id}.{note.step}"
    return RedirectResponse(f"/sessions/{top}{query}#{place}", 303)


async def note_from_json(pages: StorePages, request: Request) -> Response:
    """Write the note of a request to the JSON API.

    Args:
        pages: Has the store.
        request: The HTTP request; its body is a NoteGiven.
    """
    _require_writable(pages)
    body = await posted_body(request, "application/json")
    try:
        note = msgspec.json.decode(body, type=NoteGiven)
    except msgspec.DecodeError as error:
        raise ValueError(f"The note can't be read: {error}") from error

    def write() -> bytes:
        session_id = pages.store.find_id(request.path_params["session_id"])
        _write(pages, session_id, note)
        return msgspec.json.encode(note)

    answer = await run_in_threadpool(write)
    return Response(answer, 201, media_type="application/json")


def _require_writable(pages: StorePages) -> None:
    if pages.read_only:
        raise HTTPException(403, "This page is read only: no notes can be written.")


def _note_of(form: dict[str, str]) -> NoteGiven:
    """Read a note from a form; one that is taken back has a name and an author alone."""
    step = form.get("step", "")
    given = {name: text.strip() for name, text in form.items() if text.strip()}
    value = given.get("value")
    note = NoteGiven(
        name=given.get("name", ""),
        value=None if value is None else parse_value(value),
        step=int(step) if step.isascii() and step.isdecimal() and len(step) < 19 else None,
        comment=given.get("comment"),
        by=given.get("by"),
    )
    if "take_back" in form:
        try:
            name, by = msgspec.convert(json.loads(form["take_back"]), tuple[str, str | None])
        except (ValueError, RecursionError, msgspec.MsgspecError) as error:
            raise ValueError("The form does not say which note to take back.") from error
        return NoteGiven(name=name, step=note.step, by=by)
    if note.value is None and note.comment is None:
        raise ValueError("A note needs a value or a comment.")
    return note


def _write(pages: StorePages, session_id: str, note: NoteGiven) -> None:
    pages.store.annotate(
        session_id,
        name=note.name,
        value=note.value,
        step=note.step,
        comment=note.comment,
        by=note.by,
    )
    session_host(pages.store).rows.end_rest()  # the next page shows it
