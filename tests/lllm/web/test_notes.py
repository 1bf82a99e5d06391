"""Notes and scores from the page: who may write them, and what becomes of them."""

from __future__ import annotations

import json
from urllib.parse import urlencode

import pytest

from lllm import LogStore
from lllm.web.openapi import openapi
from tests.support.web_page import (
    HOSTILE,
    Served,
    answer_with_tool,
    fields,
    posted,
    served,
)

FORM, JSON = "application/x-www-form-urlencoded", "application/json"


def new_session(page: Served) -> str:
    """A session of the page's store that no other test knows."""
    return answer_with_tool(page.store, "A-40", notes="yes")


def test_a_form_writes_a_note_of_the_session_and_one_of_a_step(page: Served) -> None:
    found = new_session(page)
    address, given = fields(page.get(f"/sessions/{found}")[2], 0)
    note = {"name": "correct", "value": "true", "comment": "as the record says", "by": "eve"}
    status, headers, _ = posted(page, address, urlencode(given | note))
    assert (status, headers["location"]) == (303, f"/sessions/{found}#notes")
    (said,) = page.store.load_session_record(found).annotations
    assert (said.name, said.value, said.comment, said.by, said.step) == (
        "correct", True, "as the record says", "eve", None,
    )  # fmt: skip
    text = page.get(f"/sessions/{found}")[2]
    assert '<b>correct</b>=<span class="value">true</span> <q>as the record says</q>' in text

    address, given = fields(text)  # that of the last step, which is in a session below
    assert given["step"] == "2"
    status, headers, _ = posted(page, address, urlencode(given | {"name": "tone", "value": "good"}))
    owner = address.split("/")[2]
    assert (status, headers["location"]) == (303, f"/sessions/{found}#step-{owner}.2")
    assert owner != found
    (said,) = page.store.annotations([owner])[owner]
    assert (said.name, said.value, said.step) == ("tone", "good", 2)
    assert '<span class="chip">tone=good</span>' in page.get(f"/sessions/{found}")[2]
    assert "✎ correct=true" in page.get("/?note=correct%3Dtrue")[2]


def test_a_note_is_taken_back_whatever_its_name(page: Served) -> None:
    found = new_session(page)
    name = "a\r\nb\u202e\ud800'\"<b>"
    page.store.annotate(found, name=name, value=1, by="\u202e")
    address, given = fields(page.get(f"/sessions/{found}")[2], 0)
    assert posted(page, address, urlencode(given))[0] == 303
    assert page.store.load_session_record(found).annotations == []


def test_a_note_says_something(page: Served) -> None:
    found = new_session(page)
    address, given = fields(page.get(f"/sessions/{found}")[2], 0)
    for form in ({}, {"name": "x"}, {"value": "1"}):
        assert posted(page, address, urlencode(given | form))[0] == 400
    assert page.store.load_session_record(found).annotations == []


def test_only_a_form_of_this_page_is_taken(page: Served) -> None:
    found = new_session(page)
    address, given = fields(page.get(f"/sessions/{found}")[2], 0)
    body = urlencode(given | {"name": "x", "value": "1"})
    other = answer_with_tool(page.store, "A-41")
    evil = "http://evil.example"
    assert posted(page, address, body, Origin=evil)[0] == 403
    assert posted(page, address, body, Origin="null")[0] == 403
    assert posted(page, address, body, Origin="null", **{"Sec-Fetch-Site": "cross-site"})[0] == 403
    assert posted(page, address, body, Authorization="Bearer other")[0] == 403
    assert posted(page, address, body, Authorization="")[0] == 403
    assert posted(page, address, body, Host="evil.example")[0] == 421
    assert posted(page, address, body.replace(given["token"], "0" * 64))[0] == 403
    assert posted(page, address, urlencode({"name": "x", "value": "1"}))[0] == 403
    assert posted(page, f"/sessions/{other}/notes", body)[0] == 403
    assert posted(page, address, body, "text/plain")[0] == 415
    assert posted(page, address, body + "x" * 100_000)[0] == 413
    assert page.store.annotations([found, other]) == {}
    assert posted(page, address, body, Origin="null", **{"Sec-Fetch-Site": "same-origin"})[0] == 303


def test_the_api_writes_what_it_describes(page: Served) -> None:
    found = new_session(page)
    path = f"/api/sessions/{found}/annotations"
    note = {"name": "score", "value": 0.5, "step": None, "comment": "so so", "by": "eve"}
    status, _, text = posted(page, path, json.dumps(note), JSON)
    assert (status, json.loads(text)) == (201, note)
    assert page.store.list_sessions(annotations={"score": 0.5})[0].session_id == found
    for body in ("", "[]", "{}", '{"name": ""}', '{"name": "x", "step": 0}', '{"name": 1}',
                 '{"name": "x", "odd": 1}'):  # fmt: skip
        status, _, text = posted(page, path, body, JSON)
        assert (status, bool(json.loads(text)["error"])) == (400, True), body
    assert posted(page, path, json.dumps(note))[0] == 415
    assert posted(page, "/api/sessions/odd/annotations", json.dumps(note), JSON)[0] == 404
    assert "post" in openapi()["paths"]["/api/sessions/{session_id}/annotations"]  # type: ignore[index]


def test_nothing_hostile_in_a_note_is_markup(page: Served) -> None:
    found = new_session(page)
    for text in HOSTILE:
        page.store.annotate(found, name=text, value=text, comment=text, by=text)
        page.store.annotate(found, name=text, value={"a": text})
    for path in (f"/sessions/{found}", "/?tag=notes%3Dyes"):
        shown = page.get(path)[2]
        assert "<img" not in shown
        assert shown.count("<script") == 1
        assert "\u202e" not in shown


@pytest.mark.parametrize("how", ["option", "store"])
def test_a_page_that_is_read_only_has_no_forms(page: Served, how: str) -> None:
    found = new_session(page)
    path = str(page.store.backend.path)  # type: ignore[attr-defined]
    with (
        LogStore.open(path, read_only=how == "store") as store,
        served(store, read_only=how == "option") as readable,
    ):
        text = readable.get(f"/sessions/{found}")[2]
        assert 'method="post"' not in text
        for address, kind in (
            (f"/sessions/{found}/notes", FORM),
            (f"/api/sessions/{found}/annotations", JSON),
        ):
            assert posted(readable, address, '{"name": "x", "value": 1}', kind)[0] == 403
    assert page.store.annotations([found]) == {}
