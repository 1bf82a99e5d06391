"""Makes late imports safe: a fork waits for them, and an interrupted one is undone.

A child that is forked while another thread imports a module inherits the lock of that module, held
by a thread that is not there: its own import would wait for ever
(https://github.com/python/cpython/issues/65501). So a fork waits for the imports that stand inside
`importing()`; those of a program's own it can't know.

Python takes back the module whose import is interrupted, but not the modules below it that were
done already. The next import finds these, does not bind them to the new package, and the package
fails for ever with a NameError. So they are taken back, too.
"""

from __future__ import annotations

import sys
from types import TracebackType

from lllm.events.concurrency import unfinished_imports  # noqa: F401 - a child is told by it
from lllm.events.concurrency.robust_locks import ForkSafeLock

_one = ForkSafeLock(order=1)


class Importing:
    """A `with` around an import that may be the first of its module in the program."""

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
    """A `with` around an import that may be the first of its module in the program."""
    return Importing()


def take_back_parts() -> None:
    """Remove modules whose package was removed from `sys.modules`."""
    for name in sorted(sys.modules):
        package = name.rpartition(".")[0]
        if package and package not in sys.modules:
            sys.modules.pop(name, None)
