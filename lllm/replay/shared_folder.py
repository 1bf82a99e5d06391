"""A folder in which the processes of one replay leave notes about what they did.

Each process appends to a file of its own as things happen, so that its notes survive even if it is
killed. To reserve a recorded session, a process makes an empty file with the session's name, which
only one process can do.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

_SESSIONS = "sessions"
_LENGTH = 4  # bytes before each note, which give its length


class SharedFolder:
    """The folder that the processes of one replay share.

    Args:
        path: The path of the folder, which exists while the block of the replay is open.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    @classmethod
    def make(cls) -> SharedFolder:
        """Make a temporary folder that only this user can read.

        Raises:
            OSError: The folder can't be made.
        """
        import tempfile

        folder = cls(tempfile.mkdtemp(prefix="lllm-replay-"))
        os.mkdir(os.path.join(folder.path, _SESSIONS), 0o700)
        return folder

    @property
    def is_open(self) -> bool:
        """True if the folder exists, which it does while the block of the replay is open."""
        return os.path.isdir(self.path)

    def claim(self, session_id: str) -> bool:
        """Reserve a recorded session for this process.

        Args:
            session_id: The id of the recorded session.

        Returns:
            True if the session is now reserved; False if it already was, or if the block of the
            replay has ended.
        """
        file = os.path.join(self.path, _SESSIONS, session_id)
        try:
            os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except OSError:
            return False
        return True

    def tell(self, note: object) -> None:
        """Append a note of this process; do nothing once the block of the replay has ended.

        Args:
            note: Any object that can be pickled.
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
        """Iterate over the notes of all processes; the notes of one process keep their order."""
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
                    break  # the process was killed while it wrote the note
                yield pickle.loads(data[start + _LENGTH : end])
                start = end

    def remove(self) -> None:
        """Remove the folder with its contents; processes that still run can leave no more notes."""
        import shutil

        shutil.rmtree(self.path, ignore_errors=True)
