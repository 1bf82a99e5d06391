"""Makes msgspec decoders safely: only one thread at a time prepares a type for msgspec.

The first decoder of a Struct or dataclass stores on the class itself how its fields are read. If
another thread uses the half-finished information, the process crashes (msgspec 0.22.0, seen with
`Decoder`, `json.decode` and `convert`, whenever a field's type is still to be evaluated). So each
type is prepared here first: lllm's own types when their module is imported, a user's types at each
use. Decoding into a prepared type needs no lock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from lllm.events.concurrency.robust_locks import ForkSafeLock

T = TypeVar("T")

# A fork waits for this lock last: a thread with any other lock may be about to decode something.
_one = ForkSafeLock(order=10)


def decoder(
    kind: type[T], *, dec_hook: Callable[[type, object], object] | None = None
) -> msgspec.json.Decoder[T]:
    """Make a JSON decoder; several threads may do this at the same time.

    Args:
        kind: The type to decode into.
        dec_hook: msgspec's hook for types that it does not know; None for none.

    Returns:
        The decoder.
    """
    with _one.held():
        return msgspec.json.Decoder(kind, dec_hook=dec_hook)


def warm_msgspec(kind: type[T]) -> type[T]:
    """Prepare a type for `msgspec.convert`.

    Args:
        kind: The type to convert into.

    Returns:
        The same type.
    """
    decoder(kind)
    return kind
