"""Shortens a session's task to one line for lists."""

from __future__ import annotations

from lllm.events.codec import encode
from lllm.events.values.readable import readable

TASK_LENGTH = 200  # characters that a row keeps; the session has it all


def task_line(task: object) -> str | None:
    """Take the first non-empty line of a task; a task that is not text is shown as JSON.

    Args:
        task: Its recorded form.

    Returns:
        At most TASK_LENGTH characters, the last of them "…" where the line is longer. None where
        nothing was asked.
    """
    if task is None:
        return None
    try:
        plain = readable(task)
    except Exception:  # a mark that we don't know how to read
        plain = task
    text = plain if isinstance(plain, str) else encode(plain).decode()
    return first_line(text)


def first_line(text: str) -> str | None:
    """Take the first non-empty line of a text.

    Args:
        text: Any text.

    Returns:
        At most TASK_LENGTH characters, as those of `task_line`; None for a text without a word.
    """
    lines = text.lstrip().splitlines()
    if not lines:
        return None
    line = lines[0].rstrip()
    return line if len(line) <= TASK_LENGTH else f"{line[: TASK_LENGTH - 1]}…"
