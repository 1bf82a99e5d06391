"""Makes msgspec decoders safely: only one thread at a time prepares a type for msgspec.

The first decoder of a Struct, or of a dataclass, notes on the class itself how its fields are read.
Another thread that comes upon half of these notes crashes the process (msgspec 0.22.0: seen with
`Decoder`, `json.decode` and `convert` alike, wherever a field's type is still to be evaluated). So
each type is met here first: lllm's own when the module that has it is imported, a user's at each
use. What reads into a type that is known already needs no lock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from lllm.events.concurrency.robust_locks import ForkSafeLock

T = TypeVar("T")

# The last that a fork waits for: whoever holds any other lock may be about to read something.
_one = ForkSafeLock(order=10)


def decoder(
    kind: type[T], *, dec_hook: Callable[[type, object], object] | None = None
) -> msgspec.json.Decoder[T]:
    """Make a JSON decoder, in any number of threads at once.

    Args:
        kind: What is decoded.
        dec_hook: msgspec's, for types that it does not know.
    """
    with _one.held():
        return msgspec.json.Decoder(kind, dec_hook=dec_hook)


def warm_msgspec(kind: type[T]) -> type[T]:
    """Prepare a type for `msgspec.convert`, and return it.

    Args:
        kind: What is converted to.
    """
    decoder(kind)
    return kind
