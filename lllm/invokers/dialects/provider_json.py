"""Reads values of a provider's JSON; a value of an unexpected type is ignored.

Many servers use a dialect with variations, so any optional field may be missing, null or of another
type.
"""

from __future__ import annotations

import json
from collections.abc import Mapping


def mapping(value: object) -> Mapping[str, object]:
    """Read an object; {} for anything else."""
    return value if isinstance(value, dict) else {}


def items(value: object) -> list[object]:
    """Read a list; [] for anything else."""
    return value if isinstance(value, list) else []


def text(value: object) -> str | None:
    """Read a text; None for anything else."""
    return value if isinstance(value, str) else None


def arguments_text(given: object, *, ascii_only: bool = True) -> str:
    """Convert a tool's arguments to one text.

    Args:
        given: A text, which is returned unchanged even if it is not valid JSON; or the decoded
            JSON.
        ascii_only: True to escape all characters beyond ASCII.

    Returns:
        The arguments as text; "" for none.
    """
    if isinstance(given, str):
        return given
    return "" if given is None else json.dumps(given, ensure_ascii=ascii_only)
