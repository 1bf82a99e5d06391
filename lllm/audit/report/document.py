"""The parts of a document: headings, texts and tables, for any output format.

All texts are plain and can't be trusted: every output format must escape them.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class SectionHeading(msgspec.Struct, frozen=True):
    """A heading of a document.

    Attributes:
        text: The text of the heading.
        level: 1 for the title, 2 for a section, 3 for a subsection.
    """

    text: str
    level: int


class Paragraph(msgspec.Struct, frozen=True):
    """A paragraph of text."""

    text: str


class BulletList(msgspec.Struct, frozen=True):
    """A list of texts, shown with bullets."""

    texts: Sequence[str]


class Code(msgspec.Struct, frozen=True):
    """Lines that are shown exactly as they are, such as commands or a checkpoint."""

    text: str


class DataTable(msgspec.Struct, frozen=True):
    """A table of texts.

    Attributes:
        columns: The headings of the columns.
        rows: The rows; each has one text for each column.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


Block = SectionHeading | Paragraph | BulletList | Code | DataTable
Document = Sequence[Block]
