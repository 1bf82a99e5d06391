"""Detects that an open file was moved, deleted or replaced.

Whoever goes on writing to a file that was deleted or replaced loses all that it writes.
"""

from __future__ import annotations

import os

from lllm.events.errors import LogUnavailable


class OpenedFile:
    """The file that a path led to when it was opened.

    Args:
        path: The file. It need not exist yet.
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
            before: What `found` gave before it was opened: a repair may put another file there
                meanwhile. None where it was made.
        """
        self._identity = before or self.found()

    def check(self) -> None:
        """Check that the path still leads to the open file, if one was noted.

        Raises:
            LogUnavailable: It is another, or there is none.
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
