"""The page in a real browser: what is seen, live updates, keys, and that nothing hostile runs."""

from __future__ import annotations

import datetime as dt
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

from lllm.web import session_page
from lllm.web.single_file import session_as_html
from tests.support.web_page import HOSTILE, TOKEN, Served, answer_with_tool

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@contextmanager
def looking(
    browser: Browser, page: Served, path: str = "/", *, refused: bool = False, **options: object
) -> Iterator[Page]:
    """A tab on the page; at its end, nothing foreign was asked and nothing went wrong in it.

    With `refused`, it may have asked for what the page refuses.
    """
    context = browser.new_context(**options)  # type: ignore[arg-type]
    tab = context.new_page()
    troubles: list[str] = []
    tab.on("console", lambda one: troubles.append(one.text) if one.type == "error" else None)
    tab.on("pageerror", lambda error: troubles.append(str(error)))
    tab.on("dialog", lambda one: (troubles.append(f"alert: {one.message}"), one.dismiss()))
    tab.on(
        "request",
        lambda one: None if one.url.startswith(page.address + "/") else troubles.append(one.url),
    )
    tab.goto(f"{page.address}{path}{'&' if '?' in path else '?'}token={TOKEN}")
    yield tab
    if refused:
        troubles = [one for one in troubles if "status of 400" not in one]
    assert troubles == []
    context.close()


def test_the_token_leaves_the_address(browser: Browser, page: Served) -> None:
    with looking(browser, page, "/?state=success") as tab:
        assert tab.url == f"{page.address}/?state=success"
        tab.wait_for_selector("#sums b")
        assert tab.locator("#live").text_content() == "live"
        assert tab.evaluate("document.cookie") == ""


def test_a_hidden_tab_asks_for_nothing_until_it_is_seen(browser: Browser, page: Served) -> None:
    """A tab in the background costs the server nothing; once seen, it shows what it missed."""
    hide = """(hidden) => {
        Object.defineProperty(document, 'hidden', {value: hidden, configurable: true});
        document.dispatchEvent(new Event('visibilitychange'));
    }"""
    with looking(browser, page, "/?tag=hidden%3Dyes") as tab:
        tab.wait_for_selector("#live.on")
        tab.evaluate(hide, True)
        asked: list[str] = []
        tab.on("request", lambda one: asked.append(one.url))
        with page.store.session("shop::live", tags={"hidden": "yes"}):
            pass
        tab.wait_for_timeout(1_000)
        assert asked == []
        tab.evaluate(hide, False)
        tab.wait_for_selector("tr[data-state=success]")


def test_a_new_session_appears_and_changes(browser: Browser, page: Served) -> None:
    with looking(browser, page, "/?tag=live%3Dyes") as tab:
        tab.wait_for_selector("#live.on")
        assert tab.locator("tbody tr").count() == 0
        with page.store.session("shop::live", task="live task", tags={"live": "yes"}):
            tab.wait_for_selector("tr[data-state=running]")
            assert "live task" in tab.locator("tbody tr").inner_text()
        tab.wait_for_selector("tr[data-state=success]")
        assert tab.locator("tbody tr").count() == 1


def test_what_another_process_writes_appears(browser: Browser, page: Served) -> None:
    code = (
        "import sys; from lllm import LogStore\n"
        "with LogStore.open(sys.argv[1]) as store:\n"
        "    with store.session('other::process', task='from elsewhere', tags={'p': '2'}): pass\n"
    )
    with looking(browser, page, "/?tag=p%3D2") as tab:
        tab.wait_for_selector("#live.on")
        path = str(page.store.backend.path)  # type: ignore[attr-defined]
        subprocess.run([sys.executable, "-c", code, path], check=True, timeout=60)
        tab.wait_for_selector("text=from elsewhere")


def test_a_running_session_is_followed_and_what_is_folded_stays_so(
    browser: Browser, page: Served
) -> None:
    with page.store.session("shop::open", task="follow me") as session:
        found = page.store.list_sessions(limit=1)[0].session_id
        with looking(browser, page, f"/sessions/{found}") as tab:
            tab.wait_for_selector("#live.on")
            answer_with_tool(page.store, "A-1")  # a session below this one
            tab.wait_for_selector("details.step")
            tab.wait_for_selector("text=A-1 is on its way")
            first = tab.locator("details.step").first
            first.locator("> summary").click()
            assert first.get_attribute("open") is None
            answer_with_tool(page.store, "A-2")
            tab.wait_for_selector("text=A-2 is on its way")
            assert first.get_attribute("open") is None
            session.deliver("done")
    with looking(browser, page, f"/sessions/{found}") as tab:
        assert tab.locator(".head .state").first.inner_text() == "✓ success"


def test_keys(browser: Browser, page: Served) -> None:
    with looking(browser, page, "/?tag=customer%3Dalice") as tab:
        tab.wait_for_selector("#live.on")
        tab.keyboard.press("j")
        assert tab.locator("tr.chosen").count() == 1
        tab.keyboard.press("Enter")
        tab.wait_for_url("**/sessions/*")
        tab.keyboard.press("j")
        assert tab.locator("details.chosen").count() == 1
        tab.keyboard.press("e")
        tab.keyboard.press("?")
        assert tab.locator("dialog[open]").count() == 1
        tab.keyboard.press("Escape")
        tab.keyboard.press("Escape")
        tab.wait_for_url("**/?tag=customer%3Dalice")
        tab.keyboard.press("g")
        tab.keyboard.press("c")
        tab.wait_for_url("**/cost")
        for keys in ("/", "Control+k"):
            tab.keyboard.press(keys)
            assert tab.evaluate("document.activeElement.id") == "words"
            tab.keyboard.press("Escape")


@pytest.mark.parametrize("width", [400, 1280])
def test_what_a_link_leads_to_is_below_the_bar(browser: Browser, page: Served, width: int) -> None:
    size = {"width": width, "height": 300}
    with looking(browser, page, viewport=size) as tab:
        path = tab.locator(".asked a").last.get_attribute("href")
        tab.goto(f"{page.address}{path}")
        tab.evaluate("location.hash = document.querySelector('.outline a[href^=\"#\"]').hash")
        tab.wait_for_function("document.querySelector(':target') && scrollY > 0")
        bar, target = (tab.locator(one).bounding_box() for one in (".bar", "main :target"))
        assert bar is not None
        assert target is not None
        assert target["y"] >= bar["height"]


def test_filters_make_short_addresses(browser: Browser, page: Served) -> None:
    with looking(browser, page) as tab:
        tab.select_option("select[name=state]", "failure")
        tab.click("#filters button")
        tab.wait_for_load_state()
        assert tab.url == f"{page.address}/?state=failure"
        assert tab.locator("tbody tr").count() == 1


def test_sums_stay_when_one_is_clicked(browser: Browser, page: Served) -> None:
    with looking(browser, page) as tab:
        tab.wait_for_selector("#sums b")
        tab.click("#sums a:has-text('today')")
        tab.wait_for_url("**/?after=today")
        tab.wait_for_selector("#sums [aria-current]")
        assert tab.locator("#sums [aria-current]").inner_text().startswith("today")
        tab.click("#sums a:has-text('failed')")
        tab.wait_for_url("**/?state=failure&after=today")
        tab.wait_for_selector("#sums a[aria-current]")
        assert tab.locator("#sums b").count() >= 4


def test_two_checked_sessions_are_compared(browser: Browser, page: Served) -> None:
    """What is checked stays so when the list changes meanwhile."""
    with looking(browser, page, "/?tactic=shop%3A%3Adesk") as tab:
        tab.wait_for_selector("#live.on")
        rows = tab.locator("tbody tr")
        for place in (0, 1):
            rows.nth(place).locator("input[type=checkbox]").check()
        found = rows.first.get_attribute("data-key")
        page.store.tag(str(found), {"picked": "yes"})
        tab.wait_for_selector("text=picked=yes", state="attached")
        assert tab.locator("tbody input:checked").count() == 2
        tab.click("#compare button")
        tab.wait_for_url("**/compare?*")
        assert tab.locator(".sides li").count() == 2


def test_the_version_of_a_prompt_leads_to_its_text(browser: Browser, page: Served) -> None:
    found = page.store.list_sessions(tags={"customer": "alice"})[0].session_id
    with looking(browser, page, f"/sessions/{found}") as tab:
        tab.locator("h2 a:has-text('prompt v')").first.click()
        tab.wait_for_url("**/definitions/*")
        assert "prompt v" in tab.locator("h1").inner_text()
        assert tab.locator("text=Looks an order up.").is_visible()


@pytest.mark.parametrize("width", [420, 1280])
def test_times_have_a_scale_that_all_steps_share(
    browser: Browser, page: Served, width: int
) -> None:
    found = page.store.list_sessions(tags={"customer": "alice"})[0].session_id
    size = {"width": width, "height": 800}
    with looking(browser, page, f"/sessions/{found}", viewport=size) as tab:
        axis = tab.locator(".outline .axis")
        first, half, whole = axis.locator("span").all_inner_texts()
        assert first == "0"
        assert half.endswith((" ms", " s"))
        assert whole.endswith((" ms", " s"))
        assert tab.locator(".outline .legend").inner_text().split() == [
            "when:", "model", "tool", "failed",
        ]  # fmt: skip
        edges = tab.evaluate(
            "[...document.querySelectorAll('.axis, .when')].map((one) => "
            "[one.getBoundingClientRect().left, one.getBoundingClientRect().right].join())"
        )
        assert len(edges) == 3
        assert len(set(edges)) == 1


def test_nothing_hostile_runs_on_any_page(
    browser: Browser, page: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_page, "_LONG", 1)  # so that the session is sent in two parts
    hostile = [one for one in page.store.list_sessions() if one.tactic_path.startswith("evil::")]
    ids = [one.session_id for one in hostile]
    assert len(ids) == 2
    with looking(browser, page, refused=True) as tab:
        paths = ["/", "/cost", "/cost?by=agent", "/calls", "/store", "/search?q=alert", "/compare"]
        paths.append("/compare?" + urlencode([("a", ids[0]), ("b", ids[1])]))
        for number, text in enumerate(HOSTILE):
            asked = {"q": text, "tactic": text, "text": text, "model": text, "sort": text}
            paths.append(f"/{'search' if number % 2 else ''}?{urlencode(asked)}")
            paths.append(
                "/cost?" + urlencode({"by": f"tag:tag{number}{text[:4]}", "each_day": "yes"})
            )
        for one in ids:
            paths += [f"/sessions/{one}", f"/sessions/{one}/events"]
            text = page.get(f"/sessions/{one}")[2]
            paths += re.findall(r'href="(/definitions/[^"]+)"', text)
        for path in paths:
            tab.goto(page.address + path)
            tab.wait_for_load_state("load")
            tab.evaluate(
                "document.querySelectorAll('details').forEach((one) => { one.open = true; })"
            )
            tab.wait_for_load_state("load")
            assert tab.evaluate("document.querySelectorAll('script').length") == 1, path
            for link in tab.locator("a").all():
                address = link.get_attribute("href") or ""
                assert not address.lower().startswith(("javascript:", "data:")), path


def test_the_store_is_verified_by_a_button(browser: Browser, page: Served) -> None:
    with looking(browser, page, "/store") as tab:
        tab.locator("#verify button").click()
        tab.wait_for_selector("#verify:has-text('Integrity: good')")


@pytest.mark.parametrize("width", [400, 1280])
def test_it_fits_the_window(browser: Browser, page: Served, width: int) -> None:
    long = {"question": "Why did the kettle not arrive before the guests came? " * 3}
    tags = {f"label{number}": "a value of some length" for number in range(9)}
    found = answer_with_tool(page.store, "Z-99", **tags)
    with page.store.session("a_shop::with_a_long_name_of_a_tactic", task=long, tags=tags):
        pass
    version = re.findall(r'href="(/definitions/[^"]+)"', page.get(f"/sessions/{found}")[2])[0]
    with looking(browser, page, viewport={"width": width, "height": 800}) as tab:
        for path in (
            "/",
            f"/sessions/{found}",
            f"/sessions/{found}/events",
            version,
            "/cost",
            "/health",
            "/calls",
            "/search?q=kettle",
            "/store",
            "/compare",
        ):
            tab.goto(page.address + path)
            wide = tab.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, f"{path} needs {wide} pixels"


@pytest.mark.parametrize("script", [True, False])
def test_notes_are_written_and_taken_back(browser: Browser, page: Served, script: bool) -> None:
    """Whatever is typed is shown as text, and a form that is being filled survives an update."""
    found = answer_with_tool(page.store, "A-77", script=str(script))
    text = "\n".join(HOSTILE)
    with looking(browser, page, f"/sessions/{found}", java_script_enabled=script) as tab:
        form = tab.locator("#notes details.annotate")
        form.locator("summary").click()
        for name in ("name", "value", "comment", "by"):
            form.locator(f"input[name={name}]").fill(f"{name} {text}")
        if script:
            tab.wait_for_selector("#live.on")
            page.store.annotate(found, name="meanwhile", value=1)
            tab.wait_for_timeout(600)
        form.locator("button").click()
        tab.wait_for_url(f"**/sessions/{found}#notes")
        note = tab.locator("#notes .noted", has_text="comment <script>")
        assert note.count() == 1
        assert tab.locator("img, svg[onload], #notes script, .head script").count() == 0
        step = tab.locator("details.step").last
        step.locator("details.annotate > summary").click()
        step.locator("input[name=name]").fill("tone")
        step.locator("input[name=value]").fill("good")
        step.locator(".annotate button").click()
        tab.wait_for_url("**#step-*")
        assert tab.locator("details.step > summary .chip", has_text="tone=good").count() == 1
        note.locator("button").click()
        tab.wait_for_selector("#notes:not(:has-text('comment <script>'))", state="attached")
        assert tab.locator("#notes .noted", has_text="comment <script>").count() == 0
        tab.goto(f"{page.address}/?note=name%20nothing")
        assert tab.locator("tbody tr").count() == 0


def test_sessions_inside_stay_unfolded_when_the_list_changes(
    browser: Browser, page: Served
) -> None:
    with looking(browser, page, "/?tag=customer%3Dalice") as tab:
        tab.wait_for_selector("#live.on")
        tab.locator("details.below > summary").click()
        found = page.store.list_sessions(tags={"customer": "alice"})[0].session_id
        page.store.tag(found, {"seen": "yes"})
        tab.wait_for_selector("text=seen=yes", state="attached")
        assert tab.locator("details.below[open] li").count() == 1


def test_without_javascript_everything_is_there(browser: Browser, page: Served) -> None:
    found = page.store.list_sessions(tags={"customer": "alice"})[0].session_id
    with looking(browser, page, "/", java_script_enabled=False) as tab:
        assert tab.locator("tbody tr").count() > 2
        tab.goto(f"{page.address}/sessions/{found}")
        assert "on its way" in tab.content()
        tab.goto(f"{page.address}/")
        tab.click("text=Sums of these sessions")
        tab.wait_for_url("**/sums")
        assert "today" in tab.content()


def test_a_single_file_needs_nothing_else(browser: Browser, page: Served, tmp_path: Path) -> None:
    for one in page.store.list_sessions():
        file = tmp_path / f"{one.session_id}.html"
        file.write_text(session_as_html(page.store, one.session_id, dt.UTC), "utf-8")
        context = browser.new_context()
        tab = context.new_page()
        troubles: list[str] = []
        tab.on("console", lambda said, to=troubles: to.append(said.text))  # type: ignore[misc]
        tab.on("dialog", lambda said, to=troubles: (to.append("alert"), said.dismiss()))  # type: ignore[misc]
        tab.on(
            "request",
            lambda sent, to=troubles: None if sent.url.startswith("file:") else to.append(sent.url),  # type: ignore[misc]
        )
        tab.goto(file.as_uri())
        tab.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        assert troubles == []
        assert tab.locator("script").count() == 0
        assert tab.evaluate("getComputedStyle(document.body).fontSize") == "14px"
        assert tab.locator("a:not([href^='#']):not([href^='http'])").count() == 0
        context.close()


def test_sessions_in_a_notebook(browser: Browser, page: Served, tmp_path: Path) -> None:
    """What a notebook shows of hostile sessions runs nothing and asks for nothing."""
    shown = [page.store.list_sessions()._repr_html_()]
    for one in page.store.list_sessions():
        shown.append(page.store.load_session_record(one.session_id)._repr_html_())
    file = tmp_path / "cell.html"
    file.write_text(f"<!doctype html><meta charset=utf-8>{''.join(shown)}", "utf-8")
    tab = browser.new_page(viewport={"width": 900, "height": 800})
    troubles: list[str] = []
    tab.on("console", lambda said: troubles.append(said.text))
    tab.on("dialog", lambda said: (troubles.append("alert"), said.dismiss()))
    tab.on("request", lambda sent: troubles.append(sent.url))
    tab.goto(file.as_uri())
    tab.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert tab.locator("tbody tr").count() == len(page.store.list_sessions())
    assert troubles == [file.as_uri()]
    tab.close()
