"""Prints JSON for other programs; on a terminal, dangerous characters are escaped."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable

from lllm.events.codec import encode
from lllm.terminal_safe import UNSAFE


def show_json(text: str) -> None:
    """Print JSON; on a terminal, dangerous characters are replaced by JSON escapes.

    Args:
        text: A JSON text, or several on separate lines.
    """
    shown = harmless(text) if sys.stdout.isatty() else text
    sys.stdout.write(shown.rstrip("\n") + "\n")
    sys.stdout.flush()


def harmless(text: str) -> str:
    """Escape every character of a JSON text that is not harmless, except line ends.

    Args:
        text: A JSON text, or several on separate lines.

    Returns:
        The same JSON, safe to print on a terminal.
    """
    return "\n".join(UNSAFE.sub(_escape, line) for line in text.split("\n"))


def _escape(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))


def array(items: Iterable[object]) -> str:
    """Format an array with one item on each line.

    Args:
        items: Objects that JSON can express.

    Returns:
        The array as JSON.
    """
    lines = ",\n".join(encode(item).decode() for item in items)
    return f"[\n{lines}\n]" if lines else "[]"
