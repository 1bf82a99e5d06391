"""Who leaves a socket or a file open is the test that fails.

Python warns of an open socket or file when it collects it, and so in whichever test runs just then.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import suppress

import pytest

_MANY = 100  # modules, whose objects take a collection a hundredth of a second


@pytest.fixture(autouse=True)
def leaks_are_this_tests() -> Iterator[None]:
    """Where a test leaves something open, collect it before the next test begins.

    It is set up before all other fixtures of a test, and so torn down after them. A collection
    takes a tenth of a second once the SDKs are loaded, so what was loaded is kept out of it.
    """
    _freeze_modules()
    before = _open_files()
    yield
    if _open_files() - before:
        gc.collect()


_loaded = 0  # modules, when they were last kept out of collections


def _freeze_modules() -> None:
    global _loaded
    if len(sys.modules) > _loaded + _MANY:
        gc.collect()
        gc.freeze()
        _loaded = len(sys.modules)


def _open_files() -> set[tuple[int, int, int]]:
    """Each open descriptor, with what it is open on: its number alone may be in use again."""
    found = set()
    for name in os.listdir("/dev/fd"):
        with suppress(OSError):  # the one that lists them is closed by now
            status = os.fstat(int(name))
            found.add((int(name), status.st_dev, status.st_ino))
    return found
