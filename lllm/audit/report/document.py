"""A document of headings, texts and tables, whatever form it is shown in.

All texts are plain, and may be anybody's: whoever shows a document escapes every one.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class SectionHeading(msgspec.Struct, frozen=True):
    """A heading.

    Attributes:
        text: What it says.
        level: From 1, the title, to 3.
    """

    text: str
    level: int


class Paragraph(msgspec.Struct, frozen=True):
    """A paragraph of text."""

    text: str


class BulletList(msgspec.Struct, frozen=True):
    """A list of texts."""

    texts: Sequence[str]


class Code(msgspec.Struct, frozen=True):
    """Lines that are shown as they are: commands, a checkpoint."""

    text: str


class DataTable(msgspec.Struct, frozen=True):
    """A table.

    Attributes:
        columns: Its headings.
        rows: As many texts as there are columns, each.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


Block = SectionHeading | Paragraph | BulletList | Code | DataTable
Document = Sequence[Block]
