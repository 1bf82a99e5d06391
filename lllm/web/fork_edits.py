"""Finds what an edit of a fork changed, as a diff against the session that was forked."""

from __future__ import annotations

import msgspec

from lllm.events.errors import LllmError
from lllm.events.model import SessionEdited
from lllm.store.log_store import LogStore
from lllm.web.transcript import Step, Transcript


class ForkEdits(msgspec.Struct, frozen=True):
    """What a fork changed.

    Attributes:
        origin: The id of the session that was forked.
        place: The session and the number of the attempt that first saw a change.
        diff: The unified diff of the first difference; "" if there is none, or it is not known.
    """

    origin: str
    place: tuple[str, int]
    diff: str


def fork_edits(store: LogStore, transcript: Transcript) -> ForkEdits | None:
    """Compare a fork with its original.

    Args:
        store: The store, which may have the original.
        transcript: The fork.

    Returns:
        What it changed first; None if the session is no fork, or changed nothing.
    """
    origin = transcript.start.origin
    first = next((step for step in transcript.steps if step.edit is not None), None)
    if origin is None or first is None:
        return None
    try:
        found = store.diff(origin.session, transcript.record.session_id).first
    except LllmError:  # the original may be erased, or in another store
        found = None
    return ForkEdits(origin.session, _place(first), "" if found is None else found.diff)


def _place(step: Step) -> tuple[str, int]:
    return step.session_id, step.trace.request


def changed_parts(edit: SessionEdited) -> list[str]:
    """Name what an edit changes, as "the message" or "the model".

    Args:
        edit: The edit.
    """
    parts = {
        "the message": edit.message, "the result of a tool": edit.tool, "the model": edit.model,
        "parameters": edit.params, "the system prompt": edit.prompt,
    }  # fmt: skip
    return [name for name, value in parts.items() if value is not None]
