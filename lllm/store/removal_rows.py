"""Brings the rows behind an event that removes something: an erasure, or a move to an archive.

Views that take such an event remove themselves what is removed, while the log still has it. The
rows of others are built again afterwards.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from lllm.events.errors import ViewError
from lllm.projections.engine.rebuild import rebuild
from lllm.projections.view import View
from lllm.store.read_model import ReadModel

_logger = logging.getLogger("lllm.store")

_FOLLOW_SECONDS = 60.0  # for other processes that write the rows


def rows_follow(rows: ReadModel, position: int, removal: str) -> bool:
    """Wait until every view that takes a kind of removal has taken those up to a position.

    Args:
        rows: The rows.
        position: The position of the last such event.
        removal: Its type, such as `view.ERASED`.

    Returns:
        False if some are still behind: one stopped with an error, or others kept the rows for too
        long.
    """
    until = time.monotonic() + _FOLLOW_SECONDS
    while True:
        rows.catch_up(timeout=5.0)
        if not _behind(rows, position, [view for view in rows.views if _takes(view, removal)]):
            return True
        if time.monotonic() > until or rows.projector.stopped:
            return False
        time.sleep(0.01)


def rebuild_others(rows: ReadModel, position: int, removal: str) -> None:
    """Build the rows of all other views again, and of those that are still behind.

    Args:
        rows: The rows.
        position: The position of the last event that removes something.
        removal: Its type, such as `view.ERASED`.
    """
    projector = rows.projector
    behind = _behind(rows, position, projector.views)
    others = [view for view in projector.views if view in behind or not _takes(view, removal)]
    if not others:
        return
    try:
        rebuild(projector, others)
    except ViewError as error:
        _logger.error("%s Its rows may hold what was removed.", error)


def _behind(rows: ReadModel, position: int, views: Sequence[View]) -> list[View]:
    found = rows.projector.checkpoints()
    present = rows.projector.present(found)
    return [
        view
        for view in views
        if view in present and (view.name not in found or found[view.name].position < position)
    ]


def _takes(view: View, removal: str) -> bool:
    """True if a view removes what was removed itself, or is given nothing that says anything."""
    return removal in view.types or not view.types
