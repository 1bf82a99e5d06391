"""Replaces methods of classes process-wide, and restores them."""

from __future__ import annotations

from collections.abc import Callable


class ReplacedMethods:
    """The methods that are currently replaced.

    If another library has wrapped a replacement, it stays below that wrapper after `put_back`.
    """

    def __init__(self) -> None:
        self._ours: dict[tuple[type, str], tuple[object, object]] = {}  # and what was there
        self._made: dict[tuple[type, str], tuple[object, object]] = {}  # to be used once more

    def replace(self, kind: type, name: str, by: Callable[[Callable[..., object]], object]) -> None:
        """Replace a method; a second call does nothing.

        Args:
            kind: The class of the method.
            name: The name of the method.
            by: A function that makes the new method from the old one.
        """
        if (kind, name) not in self._ours:
            before = vars(kind)[name]
            made = self._made.get((kind, name))
            if made is None or made[1] is not before:
                made = self._made[kind, name] = by(before), before
            self._ours[kind, name] = made
            setattr(kind, name, made[0])

    def put_back(self) -> None:
        """Restore the original methods."""
        for (kind, name), (ours, before) in list(self._ours.items()):
            if vars(kind)[name] is ours:
                setattr(kind, name, before)
                del self._ours[kind, name]
