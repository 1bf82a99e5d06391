"""Copies the folder of a JSONL log for a backup.

The log is copied up to its head; the bytes before that never change. The rows are left out: whoever
opens the copy builds them again. Locks are left out, too: they belong to the processes that write
the original.
"""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path

from lllm.events.backend import Progress
from lllm.events.backends.jsonl.segments import segments_of
from lllm.events.files.copying import copy_bytes, permit
from lllm.events.files.own_files import make_folder, sync_folder


def copy_folder(folder: Path, upto: int, copy: Path, progress: Progress | None) -> tuple[int, int]:
    """Copy a JSONL log up to a position.

    Args:
        folder: The folder of the log.
        upto: The last position to copy.
        copy: The folder to create.
        progress: A function that is called with the bytes copied so far and the bytes to copy; None
            for no reports.

    Returns:
        The position of the last event in the copy, and the size of the copy in bytes.

    Raises:
        OSError: The log can't be read, or the copy can't be written.
    """
    parts = [segment for segment in segments_of(folder) if segment.begin < upto]
    make_folder(copy)
    for _ in copy_bytes(folder / "log.json", copy / "log.json"):
        pass
    for segment, following in zip_longest(parts, parts[1:]):
        # The last file is cut where its last complete append ends; the others are copied whole.
        limit = None if following else upto - segment.begin
        for copied in copy_bytes(segment.path, copy / segment.path.name, limit):
            if progress is not None:
                progress(segment.begin + copied, upto)
    sync_folder(copy)
    permit(folder, copy)
    return upto, sum(file.stat().st_size for file in copy.iterdir())
