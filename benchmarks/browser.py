"""A real browser without a window, and what pages cost in it: times, bytes, foreign requests."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Request

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_WIDTH, _HEIGHT = 1440, 900
_OTHERS = "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"  # no other host is known, which is told at once
_PATIENCE = 120_000  # milliseconds until a page that shows nothing is given up
# The number that the page's own timeline has for a paint; 0 as long as there is none.
_PAINT = """() => {
    const found = performance.getEntriesByName('first-contentful-paint');
    return found.length ? found[0].startTime : 0;
}"""


class NoBrowser(Exception):
    """There is no browser here; the message says what is missing."""


class NothingSeen(Exception):
    """A page did not show what was waited for; the message says what."""


class Visit(msgspec.Struct):
    """What it took to open a page in a browser that has seen nothing of it.

    Attributes:
        seen: The nanoseconds until what was waited for was visible.
        painted: The milliseconds until the first text or image was drawn, by the browser's clock.
        bytes: The bytes that were transferred until then.
        requests: The requests of the page to its own server.
        foreign: The other hosts that it asked for, which can not be found.
    """

    seen: int = 0
    painted: float = 0.0
    bytes: int = 0
    requests: int = 0
    foreign: list[str] = []


@contextmanager
def started_browser() -> Iterator[Browser]:
    """Run a browser. Raises NoBrowser."""
    path = next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        raise NoBrowser(f"no browser: none of {', '.join(_NAMES)} is on the PATH")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise NoBrowser(f"{error.name} is not installed") from None
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", f"--host-resolver-rules={_OTHERS}"]
        )
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def visited(browser: Browser, url: str, selector: str) -> Iterator[tuple[Page, Visit]]:
    """Open a page in a fresh profile, and wait until something is visible.

    Args:
        browser: The browser.
        url: The address of the page.
        selector: What has to be visible, as `text=` and a part of a text, or a CSS selector.

    Yields:
        The page, which is open until the end of the block, and what it took.

    Raises:
        NothingSeen: It is not visible after two minutes.
    """
    from playwright.sync_api import TimeoutError as NotInTime

    own, visit = urlsplit(url).netloc, Visit(foreign=[])

    def note(request: Request) -> None:
        asked = urlsplit(request.url)
        if asked.netloc == own:
            visit.requests += 1
        elif asked.netloc:  # and no data of the page itself
            visit.foreign.append(asked.netloc)

    def count(event: dict[str, float]) -> None:
        visit.bytes += int(event["encodedDataLength"])

    context = browser.new_context(viewport={"width": _WIDTH, "height": _HEIGHT})
    try:
        page = context.new_page()
        page.on("request", note)
        session = context.new_cdp_session(page)
        session.send("Network.enable")
        session.on("Network.loadingFinished", count)
        began = time.perf_counter_ns()
        try:
            page.goto(url, wait_until="commit", timeout=_PATIENCE)
            page.locator(f"{selector} >> visible=true").first.wait_for(timeout=_PATIENCE)
        except NotInTime as error:
            raise NothingSeen(f"{selector} was not seen in {_PATIENCE // 1000} seconds") from error
        visit.seen = time.perf_counter_ns() - began
        while not visit.painted:  # waiting in the page needs eval, which a page may forbid
            visit.painted = page.evaluate(_PAINT)
            if not visit.painted:
                page.wait_for_timeout(10)
        yield page, visit
    finally:
        context.close()
