"""Makes late imports safe: a fork waits for them, and interrupted ones are undone.

A child that is forked while another thread imports a module inherits the lock of that module, held
by a thread that does not exist in the child. Its own import of the module would wait forever
(https://github.com/python/cpython/issues/65501). So a fork waits for the imports inside
`importing()`; it can't know of imports in the user's program.

If an import is interrupted, Python removes the module from `sys.modules`, but not its submodules
that were already imported. The next import finds these submodules and does not bind them to the new
package, so the package fails with a NameError until the process ends. So the submodules are
removed, too.
"""

from __future__ import annotations

import sys
from types import TracebackType

from lllm.events.concurrency import unfinished_imports  # noqa: F401 - a child is told by it
from lllm.events.concurrency.robust_locks import ForkSafeLock

_one = ForkSafeLock(order=1)


class Importing:
    """A context manager for an import that may be the first of its module in the program."""

    def __enter__(self) -> None:
        _one.enter(sys._getframe(1))

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> None:
        try:
            if error is not None:
                take_back_parts()
        finally:
            _one.exit(sys._getframe(1))


def importing() -> Importing:
    """Make a context manager for an import that may be the first of its module in the program."""
    return Importing()


def take_back_parts() -> None:
    """Remove the submodules of packages that were removed from `sys.modules`."""
    for name in sorted(sys.modules):
        package = name.rpartition(".")[0]
        if package and package not in sys.modules:
            sys.modules.pop(name, None)
