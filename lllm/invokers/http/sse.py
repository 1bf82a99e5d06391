"""Decodes server-sent events: the `data` of each event, from chunks of a body.

It follows
https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation. Model
providers send everything of interest in `data`, so names, ids and retry times are ignored. Lines
are split before they are decoded, because no byte of a longer UTF-8 sequence is a line end.
"""

from __future__ import annotations

_BOM = b"\xef\xbb\xbf"
_LINE_ENDS = b"\r\n"


class Decoder:
    """Decodes one stream; how its bytes are split into chunks makes no difference.

    An event without a blank line after it is not returned, because the stream ended in the middle
    of it.
    """

    def __init__(self) -> None:
        self._line: list[bytes] = []  # the line that has not ended yet, in pieces
        self._after_cr = False  # a following LF is part of the same line end
        self._first = True
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> list[str]:
        """Return the data of each event that this chunk completes.

        Args:
            chunk: The next bytes of the body.

        Returns:
            A text for each event, its lines joined by line feeds. The providers' end marks, such as
            "[DONE]", are returned as well.
        """
        if not chunk:
            return []
        # Check the chunk, not its last complete line: more may follow that line within the chunk.
        after_cr, self._after_cr = self._after_cr, chunk.endswith(b"\r")
        if after_cr:
            chunk = chunk.removeprefix(b"\n")
        lines = chunk.splitlines(keepends=True)
        rest = lines.pop() if lines and not lines[-1].endswith((b"\r", b"\n")) else b""
        found = []
        lines.reverse()
        while lines:  # free each line when it is read, because it may be long
            self._line.append(lines.pop())
            whole = b"".join(self._line)
            self._line.clear()
            if self._take(whole):
                found.append("\n".join(self._data))
                self._data.clear()
        if rest:
            self._line.append(rest)
        return found

    def _take(self, line: bytes) -> bool:
        """Handle one line; True if it ends an event that has data."""
        if self._first:
            self._first = False
            line = line.removeprefix(_BOM)
        end = len(line)
        while end and line[end - 1] in _LINE_ENDS:
            end -= 1
        if not end:
            return bool(self._data)
        if line.startswith(b"data:"):
            begin = 6 if line.startswith(b" ", 5) else 5
            self._data.append(str(memoryview(line)[begin:end], "utf-8", "replace"))
        elif line[:end] == b"data":
            self._data.append("")
        return False
