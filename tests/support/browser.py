"""A real browser for the tests of pages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real browser without a window. `.ci/run` installs it; elsewhere it may be missing.

    It is closed behind each module: as long as it is there, asyncio.run() fails in this thread.
    """
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        if os.environ.get("LLLM_TEST_BROWSER"):
            pytest.fail(f"no browser: none of {', '.join(_NAMES)} is on the PATH")
        pytest.skip(f"no browser: none of {', '.join(_NAMES)} is on the PATH")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield started
        started.close()
