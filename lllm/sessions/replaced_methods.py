"""Replaces methods of classes process-wide, and puts them back."""

from __future__ import annotations

from collections.abc import Callable


class ReplacedMethods:
    """Methods that are replaced for now.

    Where another library has replaced one on top, ours stays below it when the others are put back.
    """

    def __init__(self) -> None:
        self._ours: dict[tuple[type, str], tuple[object, object]] = {}  # and what was there
        self._made: dict[tuple[type, str], tuple[object, object]] = {}  # to be used once more

    def replace(self, kind: type, name: str, by: Callable[[Callable[..., object]], object]) -> None:
        """Replace a method; doing so twice does nothing.

        Args:
            kind: The class.
            name: Of the method.
            by: Makes the new method of the old one.
        """
        if (kind, name) not in self._ours:
            before = vars(kind)[name]
            made = self._made.get((kind, name))
            if made is None or made[1] is not before:
                made = self._made[kind, name] = by(before), before
            self._ours[kind, name] = made
            setattr(kind, name, made[0])

    def put_back(self) -> None:
        """Put back what was there before."""
        for (kind, name), (ours, before) in list(self._ours.items()):
            if vars(kind)[name] is ours:
                setattr(kind, name, before)
                del self._ours[kind, name]
