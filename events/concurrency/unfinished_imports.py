"""Removes, in a forked child, imports that another thread had begun before the fork.

The child inherits the lock of a module that is being imported, and the module as far as it had
come, but not the thread that would finish it: its own import of the module would wait for ever
(https://github.com/python/cpython/issues/65501). A fork waits for lllm's own imports, but not
longer than a second. So a child forgets what was unfinished, and imports it anew when it is needed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import _bootstrap
from threading import get_ident

from lllm.events.concurrency.fork_handlers import register_after_fork


class _Unfinished:
    """Clears, in a forked child, the imports that other threads of the parent had begun."""

    def after_fork(self) -> None:
        """Remove unfinished imports, and their locks."""
        locks = getattr(_bootstrap, "_module_locks", {})
        names = list(_imported_by_others(locks))
        for name in names:
            locks.pop(name, None)
            spec = getattr(sys.modules.get(name), "__spec__", None)
            if getattr(spec, "_initializing", False):
                # With the modules below it: they would not be bound to the package when it is
                # imported anew.
                for part in [part for part in sys.modules if f"{part}.".startswith(f"{name}.")]:
                    sys.modules.pop(part, None)


def _imported_by_others(locks: dict[str, object]) -> Iterator[str]:
    """The modules whose import lock another thread held.

    `importlib._bootstrap` keeps weak references to the locks, by the modules' names (CPython 3.11
    to 3.14).
    """
    for name, reference in list(locks.items()):
        lock = reference() if callable(reference) else None
        if getattr(lock, "owner", None) not in (None, get_ident()):
            yield name


unfinished = _Unfinished()
register_after_fork(unfinished)
