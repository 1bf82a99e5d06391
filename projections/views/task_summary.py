"""Shortens a session's task to one line for lists."""

from __future__ import annotations

from lllm.events.codec import encode
from lllm.events.values.readable import readable

TASK_LENGTH = 200  # characters that a row stores; the log has the whole task


def task_line(task: object) -> str | None:
    """Return the first non-empty line of a task; a task that is not text is shown as JSON.

    Args:
        task: The recorded form of the task.

    Returns:
        At most TASK_LENGTH characters; a longer line is cut and ends in "…". None if the task is
        empty.
    """
    if task is None:
        return None
    try:
        plain = readable(task)
    except Exception:  # a mark that this version can't read
        plain = task
    text = plain if isinstance(plain, str) else encode(plain).decode()
    return first_line(text)


def first_line(text: str) -> str | None:
    """Return the first non-empty line of a text.

    Args:
        text: Any text.

    Returns:
        At most TASK_LENGTH characters; a longer line is cut and ends in "…". None if the text has
        no such line.
    """
    lines = text.lstrip().splitlines()
    if not lines:
        return None
    line = lines[0].rstrip()
    return line if len(line) <= TASK_LENGTH else f"{line[: TASK_LENGTH - 1]}…"
