"""Writes texts as SQL, for statements that take no parameters."""

from __future__ import annotations


def literal(text: str) -> str:
    """Write a text as SQL.

    Args:
        text: The text; a `?` in it would stand for a parameter.

    Returns:
        A constant of PostgreSQL, without a `?`.
    """
    escaped = text.replace("\\", "\\\\").replace("'", "''").replace("?", "\\x3f")
    return f"E'{escaped}'"
