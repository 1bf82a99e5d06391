"""What `lllm archive` did, or would do."""

from __future__ import annotations

import msgspec


class ArchivedSessions(msgspec.Struct, kw_only=True):
    """Which sessions left a store, and where they are.

    Attributes:
        sessions: The ids of the sessions at the top that left, or would leave.
        files: The archive files, in the order in which they were written.
        bytes: The length of these files together.
        events: How many events left the store.
        payload_bytes: The length of the payloads of these events.
        held: Sessions that stay because a legal hold keeps them.
        running: Sessions that stay because they, or one below them, still run.
        in_use: Sessions that stay because a replay or fork of them runs.
        damaged: Sessions that stay because an event of them is not what was written.
        dry_run: True if nothing was changed.
        pending: True if the store's file keeps its size until `lllm vacuum` has run.
    """

    sessions: list[str] = []
    files: list[str] = []
    bytes: int = 0
    events: int = 0
    payload_bytes: int = 0
    held: list[str] = []
    running: list[str] = []
    in_use: list[str] = []
    damaged: list[str] = []
    dry_run: bool = False
    pending: bool = False
