"""Reads a damaged JSONL log: every readable event, and a note for each damaged place.

Each line of the log shows where an event begins, so reading can continue after damage. An append
with a damaged line is lost as a whole. For the bytes after the last complete append, see
`torn_tail`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lllm.events.backends.jsonl import complete_end, segments, torn_tail
from lllm.events.damage import Damage, Readable
from lllm.events.envelope import Recorded
from lllm.events.errors import LogDamaged
from lllm.events.files.own_files import open_to_read

if TYPE_CHECKING:
    from lllm.events.backends.jsonl.backend import LocalFileBackend

_LOOKS = (0.02, 0.2, 0)  # seconds until a possibly unfinished write is checked again


class ReadableLines(Readable):
    """Iterates over the readable events and the damage of a JSONL log, its unfinished end included.

    Args:
        log: The log to read.

    Raises:
        LogError: The log can't be read at all.
    """

    def __init__(self, log: LocalFileBackend) -> None:
        super().__init__(log)
        self._folder = log.path
        self._lines = log

    def __iter__(self) -> Iterator[Recorded | Damage]:
        yield from super().__iter__()
        with segments.FolderErrors(self._folder):
            damage = self._look_at_tail()
        if damage is not None:
            yield damage

    def _look_at_tail(self) -> Damage | None:
        self.set_aside = tuple(map(str, torn_tail.files_set_aside(self._folder)))
        found = segments.segments_of(self._folder)
        if not found:
            self._look_at_end()
            return None
        self.last_begin = found[-1].begin
        for wait in _LOOKS:  # another process may be writing
            with open_to_read(found[-1].path) as file:
                size = file.seek(0, os.SEEK_END)
                # the end may be further now, because others keep appending
                end = complete_end.whole_end(file)
                state = torn_tail.tail_state(file, end, size)
            if state.kind == "none":
                self._look_at_end()
                return None
            time.sleep(wait)
        if state.kind != "damaged":
            self.torn_bytes = size - end
            return None
        error = torn_tail.damaged_tail(found[-1], end, size)
        return Damage(error.position, "", 0, str(error))

    def _look_at_end(self) -> None:
        try:
            self._lines.check_end()
        except LogDamaged as error:
            self.lost_end = Damage(error.position, "", 0, str(error))
