"""Escapes untrusted texts before they are printed on a terminal.

Control characters could colour the screen or move the cursor, and some characters hide or reorder
text (https://trojansource.codes, CVE-2021-42574); both are shown as escapes. Hidden characters are
those that Unicode calls default ignorable (Default_Ignorable_Code_Point in
DerivedCoreProperties.txt), except joiners and variation selectors, which scripts and emoji need.
"""

from __future__ import annotations

import re

UNSAFE = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f"  # controls: C0, DEL, C1
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # direction: marks, embeddings, isolates
    "\u2028\u2029"  # line ends
    "\ud800-\udfff"  # lone surrogates
    "\xad\u034f\u115f\u1160\u17b4\u17b5\u180e\u200b\u2060-\u2065\u206a-\u206f\u3164"
    "\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e00ff"
    "\U000e01f0-\U000e0fff"  # invisible characters
    "]"
)


def visible(text: str) -> str:
    """Escape a text so that it is one safe line.

    Args:
        text: Any text, trusted or not.

    Returns:
        The text, safe to print on a terminal.
    """
    return UNSAFE.sub(_escape, text)


def visible_lines(text: str) -> str:
    """Escape a text of several lines, such as a traceback; line ends are kept.

    Args:
        text: Any text, trusted or not.

    Returns:
        The text, safe to print on a terminal, without line ends at its end.
    """
    return "\n".join(visible(line) for line in text.rstrip("\n").split("\n"))


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()
