"""Prints a document on a terminal or to a pipe."""

from __future__ import annotations

from io import StringIO

from rich.console import Console
from rich.text import Text

from lllm.audit.report.document import Block, BulletList, Code, Document, Paragraph, SectionHeading
from lllm.cli.render.console import plain_table, show
from lllm.terminal_safe import visible, visible_lines

_WIDTH = 120  # columns of a text in a file
_STYLES = {1: "bold underline", 2: "bold", 3: "underline"}


def show_document(console: Console, document: Document) -> None:
    """Print a document.

    Args:
        console: The console to print on.
        document: The document to print.
    """
    for block in document:
        _show(console, block)


def plain_text(document: Document) -> str:
    """Format a document as plain text.

    Args:
        document: The document to print.
    """
    file = StringIO()
    show_document(Console(file=file, width=_WIDTH, markup=False, emoji=False), document)
    return file.getvalue()


def _show(console: Console, block: Block) -> None:
    if isinstance(block, SectionHeading):
        console.print()
        console.print(Text(visible(block.text), style=_STYLES[block.level]))
    elif isinstance(block, Paragraph):
        console.print(Text(visible(block.text)))
    elif isinstance(block, BulletList):
        for text in block.texts:
            console.print(Text(f"- {visible(text)}"))
    elif isinstance(block, Code):
        console.print(Text(visible_lines(block.text)), style="dim")
    else:
        table = plain_table()
        for name in block.columns:
            table.add_column(Text(name), overflow="fold")
        for row in block.rows:
            table.add_row(*(Text(visible(cell)) for cell in row))
        show(console, table)
