"""Reads values of a provider's JSON; a value of an unexpected type is ignored.

Many servers speak a dialect, each with an accent, so what is optional may be missing, null or of
another type.
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
        given: A text, which is passed on as it is, valid JSON or not; or its JSON.
        ascii_only: True to escape all characters beyond ASCII.

    Returns:
        The text; "" for none.
    """
    if isinstance(given, str):
        return given
    return "" if given is None else json.dumps(given, ensure_ascii=ascii_only)
