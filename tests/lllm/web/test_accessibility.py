"""Every page keeps to WCAG 2.1 AA, as far as axe-core can tell, in a light and a dark window."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.support.web_page import TOKEN, Served

if TYPE_CHECKING:
    from playwright.sync_api import Browser

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_are_for_everybody(browser: Browser, page: Served, scheme: str) -> None:
    a, b = (
        page.store.list_sessions(tags={"customer": name})[0].session_id for name in ("alice", "bob")
    )
    failed = page.store.list_sessions(state="failure")[0].session_id
    page.store.annotate(a, name="correct", value=True, comment="why", by="eve")
    version = re.findall(r'href="(/definitions/[^"]+)"', page.get(f"/sessions/{a}")[2])[0]
    context = browser.new_context(color_scheme=scheme, bypass_csp=True)  # type: ignore[arg-type]
    tab = context.new_page()
    tab.goto(f"{page.address}/?token={TOKEN}")
    for path in (
        "/", "/?model=gpt*&sort=cost", f"/sessions/{a}", f"/sessions/{b}", f"/sessions/{failed}",
        f"/sessions/{a}/steps/{a}/1", "/cost", "/cost?by=day", "/health", "/calls",
        "/search?q=kettle", f"/compare?a={a}&b={b}", f"/compare?id={a}&id={b}&id={failed}",
        "/store",
        f"/sessions/{a}/events", version, "/compare", "/?state=failure&after=today",
    ):  # fmt: skip
        tab.goto(page.address + path)
        tab.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        if path.startswith("/?"):
            tab.wait_for_selector("#sums b")
        found = Axe().run(tab, options={"runOnly": RULES}).response["violations"]
        assert [(one["id"], one["nodes"][0]["html"]) for one in found] == [], path
    context.close()
