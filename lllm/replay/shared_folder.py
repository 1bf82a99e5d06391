"""A folder through which the processes of one replay tell what they did.

Each process appends to a file of its own as things happen, so that what one did is told even if it
is killed. Which recorded session a process took stands as an empty file of that session's name,
which only one of them can make.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

_SESSIONS = "sessions"
_LENGTH = 4  # bytes that say how long a note is


class SharedFolder:
    """The folder of one replay.

    Args:
        path: Of the folder; it is there while the replay's block is open.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    @classmethod
    def make(cls) -> SharedFolder:
        """Make one that only this user can read.

        Raises:
            OSError: There is no place for it.
        """
        import tempfile

        folder = cls(tempfile.mkdtemp(prefix="lllm-replay-"))
        os.mkdir(os.path.join(folder.path, _SESSIONS), 0o700)
        return folder

    @property
    def is_open(self) -> bool:
        """True while the replay's block is open."""
        return os.path.isdir(self.path)

    def claim(self, session_id: str) -> bool:
        """Take a recorded session for this process.

        Args:
            session_id: Its id.

        Returns:
            False if another process took it, or the replay's block is over.
        """
        file = os.path.join(self.path, _SESSIONS, session_id)
        try:
            os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except OSError:
            return False
        return True

    def tell(self, note: object) -> None:
        """Append a note of this process; nobody reads it once the replay's block is over.

        Args:
            note: Anything that can be pickled.
        """
        import pickle

        data = pickle.dumps(note)
        with suppress(OSError):
            file = os.path.join(self.path, f"{os.getpid()}.notes")
            descriptor = os.open(file, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
            try:
                os.write(descriptor, len(data).to_bytes(_LENGTH, "big") + data)
            finally:
                os.close(descriptor)

    def told(self) -> Iterator[object]:
        """Read the notes of all processes, those of one in their order."""
        import pickle

        for name in sorted(os.listdir(self.path)):
            if not name.endswith(".notes"):
                continue
            with open(os.path.join(self.path, name), "rb") as file:
                data = file.read()
            start = 0
            while start + _LENGTH <= len(data):
                end = start + _LENGTH + int.from_bytes(data[start : start + _LENGTH], "big")
                if end > len(data):
                    break  # its process was killed as it wrote
                yield pickle.loads(data[start + _LENGTH : end])
                start = end

    def remove(self) -> None:
        """Remove it with all that is inside; processes that still run are told nothing more."""
        import shutil

        shutil.rmtree(self.path, ignore_errors=True)
