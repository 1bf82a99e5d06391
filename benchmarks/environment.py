"""The environment of the programs whose start is measured."""

from __future__ import annotations

import os

_UNUSUAL = ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED")


def as_installed() -> dict[str, str]:
    """The environment of a user who has installed lllm: Python keeps the modules it compiled.

    Without that, the start of a program takes two or three times as long, and what is measured is
    Python's compiler. The first start still compiles them, so it does not count.
    """
    return {name: value for name, value in os.environ.items() if name not in _UNUSUAL}
