"""Imports that are made late, when something is first needed, and never half done at a fork.

A child that is forked while another thread imports a module inherits the lock of that module, held
by a thread that is not there: its own import would wait for ever
(https://github.com/python/cpython/issues/65501). So a fork waits for the imports that stand inside
`importing()`; those of a program's own it can't know.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from lllm.events import unfinished_imports  # noqa: F401 - a child is told by it
from lllm.events.locks import RestingLock

_one = RestingLock(order=1)


def importing() -> AbstractContextManager[None]:
    """A `with` around an import that may be a program's first of a module."""
    return _one.held()
