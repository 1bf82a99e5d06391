"""Texts of others, made safe for a terminal.

Control characters, which could colour the screen or move the cursor, and characters that hide or
turn text around (https://trojansource.codes, CVE-2021-42574) are shown as escapes.
"""

from __future__ import annotations

import re

# C0, DEL, C1; bidirectional marks and controls; line separators; lone surrogates; what has no width
# (zero width space, word joiner, byte order mark, tags). Joiners stay: scripts and emoji use them.
UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060\u2066-\u2069\ufeff"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    """A text on one line, everything in it that is no plain character as an escape."""
    return UNSAFE.sub(_escape, text)


def visible_lines(text: str) -> str:
    """A text of several lines, a traceback say, with its lines kept and all else escaped."""
    return "\n".join(visible(line) for line in text.rstrip("\n").split("\n"))


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()
