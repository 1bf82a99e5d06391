"""Detects that an open file was moved, deleted or replaced.

Everything that is written to a deleted or replaced file is lost.
"""

from __future__ import annotations

import os

from lllm.events.errors import LogUnavailable


class OpenedFile:
    """Remembers which file a path led to when it was opened.

    Args:
        path: The path; the file need not exist yet.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._identity: tuple[int, int] | None = None

    def found(self) -> tuple[int, int] | None:
        """Find the device and inode of the file at the path; None if there is none."""
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def note(self, before: tuple[int, int] | None) -> None:
        """Remember the file at the path as the open one.

        Args:
            before: The result of `found` before the file was opened, because a repair may replace
                the file meanwhile; None if the file was newly created.
        """
        self._identity = before or self.found()

    def check(self) -> None:
        """Check that the path still leads to the open file, if one was noted.

        Raises:
            LogUnavailable: The path leads to another file, or to none.
        """
        if self._identity is None:
            return
        there = self.found()
        if there is None:
            raise LogUnavailable(
                f"{self.path} was deleted or moved while it was open. Put it back, or open the "
                "store again."
            )
        if there != self._identity:
            raise LogUnavailable(
                f"{self.path} was deleted or moved while it was open, and another file stands in "
                "its place. Open the store again to use that."
            )
