"""Formats a document as Markdown. No text in it can become markup, a link or HTML.

The format is GitHub Flavored Markdown (https://github.github.com/gfm/), which other programs can
read, too.
"""

from __future__ import annotations

import re

from lllm.audit.report.document import Block, BulletList, Code, Document, Paragraph, SectionHeading
from lllm.terminal_safe import visible, visible_lines

# Characters with a meaning within a line. A line never begins with a text of a log.
_SPECIAL = re.compile(r"[\\`*_\[\]|~$^=]")
_ENTITIES = re.compile(r"[<>&@]|:(?=//)|(?<=www)\.|(?<=mailto):|(?<=xmpp):", re.IGNORECASE)
_LINE_BEGIN = re.compile(r"^(\s*)([#+\-!>]|\d+(?=[.)]))")


def markdown(document: Document) -> str:
    """Format a document as Markdown.

    Args:
        document: The document to format.

    Returns:
        The Markdown text.
    """
    return "\n".join(map(_block, document))


def escaped(text: str) -> str:
    """Escape a text so that Markdown shows it as it is, on one line.

    Args:
        text: Any text; it may come from anybody.
    """
    text = _SPECIAL.sub(r"\\\g<0>", visible(text))
    return _ENTITIES.sub(lambda found: f"&#{ord(found[0])};", text)


def _line(text: str) -> str:
    """Escape a text, also the characters that have a meaning at the beginning of a line."""
    line = escaped(text).strip()
    return _LINE_BEGIN.sub(lambda found: f"{found[1]}&#{ord(found[2][0])};{found[2][1:]}", line)


def _block(block: Block) -> str:
    if isinstance(block, SectionHeading):
        return f"{'#' * block.level} {_line(block.text)}\n"
    if isinstance(block, Paragraph):
        return f"{_line(block.text)}\n"
    if isinstance(block, BulletList):
        return "".join(f"- {_line(text)}\n" for text in block.texts)
    if isinstance(block, Code):
        return "".join(f"    {line}\n" for line in visible_lines(block.text).split("\n"))
    head = " | ".join(map(escaped, block.columns))
    rule = " | ".join("---" for _ in block.columns)
    rows = [" | ".join(escaped(cell) or " " for cell in row) for row in block.rows]
    return "".join(f"| {row} |\n" for row in (head, rule, *rows))
