"""Imports that are made late, when something is first needed, and never half done at a fork.

A child that is forked while another thread imports a module inherits the lock of that module, held
by a thread that is not there: its own import would wait for ever
(https://github.com/python/cpython/issues/65501). So a fork waits for the imports that stand inside
`importing()`; those of a program's own it can't know.
"""

from __future__ import annotations

import threading

from lllm.events.locks import rest_during_fork, tell_after_fork

_LONGEST = 30.0  # seconds that a fork waits for an import


class _Importing:
    def __init__(self) -> None:
        self._lock = threading.RLock()
        rest_during_fork(self)
        tell_after_fork(self)

    def pause(self) -> bool:
        return self._lock.acquire(timeout=_LONGEST)

    def resume(self) -> None:
        self._lock.release()

    def after_fork(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


_one = _Importing()


def importing() -> _Importing:
    """A `with` around an import that may be a program's first of a module."""
    return _one
