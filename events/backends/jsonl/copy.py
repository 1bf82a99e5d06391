"""Copies the folder of a JSONL log for a backup.

It is copied up to its head; nothing before that ever changes. Its rows are left out: whoever opens
the copy builds them anew. Locks are not copied: they belong to the processes that write the
original.
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
        folder: The log.
        upto: The last position that is copied.
        copy: The folder to make.
        progress: Called with bytes copied and bytes to copy.

    Returns:
        The position, and the size of the copy in bytes.

    Raises:
        OSError: The log can't be read, or the copy can't be written.
    """
    parts = [segment for segment in segments_of(folder) if segment.begin < upto]
    make_folder(copy)
    for _ in copy_bytes(folder / "log.json", copy / "log.json"):
        pass
    for segment, following in zip_longest(parts, parts[1:]):
        # The last is cut where its last whole append ends; others are copied as they are.
        limit = None if following else upto - segment.begin
        for copied in copy_bytes(segment.path, copy / segment.path.name, limit):
            if progress is not None:
                progress(segment.begin + copied, upto)
    sync_folder(copy)
    permit(folder, copy)
    return upto, sum(file.stat().st_size for file in copy.iterdir())
