"""Shows a document as Markdown, in which no text of it is markup, a link or HTML.

The form is GitHub Flavored Markdown (https://github.github.com/gfm/), which other readers take as
well.
"""

from __future__ import annotations

import re

from lllm.audit.report.document import Block, BulletList, Code, Document, Paragraph, SectionHeading
from lllm.terminal_safe import visible, visible_lines

# What means something within a line. A line never begins with a text of a log.
_SPECIAL = re.compile(r"[\\`*_\[\]|~$^=]")
_ENTITIES = re.compile(r"[<>&@]|:(?=//)|(?<=www)\.|(?<=mailto):|(?<=xmpp):", re.IGNORECASE)
_LINE_BEGIN = re.compile(r"^(\s*)([#+\-!>]|\d+(?=[.)]))")


def markdown(document: Document) -> str:
    """Show a document as Markdown.

    Args:
        document: The document.

    Returns:
        The text.
    """
    return "\n".join(map(_block, document))


def escaped(text: str) -> str:
    """Write any text as one line of Markdown that shows it as it is.

    Args:
        text: Anybody's.
    """
    text = _SPECIAL.sub(r"\\\g<0>", visible(text))
    return _ENTITIES.sub(lambda found: f"&#{ord(found[0])};", text)


def _line(text: str) -> str:
    """Escape a text that begins a line, too."""
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
