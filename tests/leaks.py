"""Who leaves a socket or a file open is the test that fails.

Python warns of an open socket or file when it collects it, and so in whichever test runs just then.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import suppress

import pytest


@pytest.fixture(autouse=True)
def leaks_are_this_tests() -> Iterator[None]:
    """Where a test leaves something open, collect it before the next test begins.

    It is set up before all other fixtures of a test, and so torn down after them. A collection
    takes a tenth of a second once the SDKs are loaded, so it is made only where there is need.
    """
    before = _open_files()
    yield
    if _open_files() - before:
        gc.collect()


def _open_files() -> set[tuple[int, int, int]]:
    """Each open descriptor, with what it is open on: its number alone may be in use again."""
    found = set()
    for name in os.listdir("/dev/fd"):
        with suppress(OSError):  # the one that lists them is closed by now
            status = os.fstat(int(name))
            found.add((int(name), status.st_dev, status.st_ino))
    return found
