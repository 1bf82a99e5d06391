"""Removes, in a forked child, imports that another thread had begun before the fork.

The child inherits the lock of a module that is being imported, and the half-imported module, but
not the thread that would finish the import. Its own import of the module would wait forever
(https://github.com/python/cpython/issues/65501). A fork waits at most a second for lllm's own
imports. So a child removes unfinished imports, and imports the modules again when they are needed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import _bootstrap
from threading import get_ident

from lllm.events.concurrency.fork_handlers import register_after_fork


class _Unfinished:
    """Removes, in a forked child, the imports that other threads of the parent had begun."""

    def after_fork(self) -> None:
        """Remove unfinished imports, and their locks."""
        locks = getattr(_bootstrap, "_module_locks", {})
        names = list(_imported_by_others(locks))
        for name in names:
            locks.pop(name, None)
            spec = getattr(sys.modules.get(name), "__spec__", None)
            if getattr(spec, "_initializing", False):
                # Also its submodules: they would not be bound to the package when it is imported
                # again.
                for part in [part for part in sys.modules if f"{part}.".startswith(f"{name}.")]:
                    sys.modules.pop(part, None)


def _imported_by_others(locks: dict[str, object]) -> Iterator[str]:
    """The modules whose import lock is held by another thread.

    `importlib._bootstrap` keeps weak references to the locks, by the names of the modules (CPython
    3.11 to 3.14).
    """
    for name, reference in list(locks.items()):
        lock = reference() if callable(reference) else None
        if getattr(lock, "owner", None) not in (None, get_ident()):
            yield name


unfinished = _Unfinished()
register_after_fork(unfinished)
