"""JSON for other programs, and harmless where it meets a terminal instead."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable

from lllm.events.codec import encode
from lllm.terminal_safe import UNSAFE


def show_json(text: str) -> None:
    """Print JSON as it is; on a terminal, the characters that could harm it become the escapes that
    JSON has for them, which mean the same."""
    shown = harmless(text) if sys.stdout.isatty() else text
    sys.stdout.write(shown.rstrip("\n") + "\n")
    sys.stdout.flush()


def harmless(text: str) -> str:
    """The same JSON with every character that is not plain as an escape, but for line ends."""
    return "\n".join(UNSAFE.sub(_escape, line) for line in text.split("\n"))


def _escape(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))


def array(items: Iterable[object]) -> str:
    """An array with one item on each line."""
    lines = ",\n".join(encode(item).decode() for item in items)
    return f"[\n{lines}\n]" if lines else "[]"
