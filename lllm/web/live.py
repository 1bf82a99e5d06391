"""Notifies a browser which sessions have new events, by a stream of server-sent events.

The stream says that something changed, but not what. The page then requests its own address again
and replaces the parts that differ, so a live page always looks as after a reload. The format is
defined in https://html.spec.whatwg.org/multipage/server-sent-events.html.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
from starlette.concurrency import run_in_threadpool

from lllm.events import codec
from lllm.events.model import SessionStarted
from lllm.store.log_store import LogStore, session_host

POLL = 0.15  # seconds between two looks at the end of the log
_MOST = 2_000  # events of one message; behind more of them the page looks at everything
_SILENCE = 15.0  # seconds after which a comment keeps the connection open


class ChangedSessions(msgspec.Struct):
    """The sessions that have new events.

    Attributes:
        position: The last position of the log that was examined.
        sessions: The ids of these sessions, and of the top-level sessions above new ones.
        started: The number of new top-level sessions.
        all: True if there are too many sessions to list.
    """

    position: int
    sessions: list[str] = []
    started: int = 0
    all: bool = False


def changes_after(store: LogStore, position: int) -> ChangedSessions | None:
    """Find the sessions that have events after a position.

    Args:
        store: The store to read from.
        position: The last position that the page shows.

    Returns:
        The changes; None if there are no new events, or if lists and sums lack them yet.
    """
    head = session_host(store).rows.caught_up_to()
    if head == position:
        return None
    found = ChangedSessions(head)
    if head < position:  # another file is in its place
        return msgspec.structs.replace(found, all=True)
    ids: dict[str, None] = {}
    for count, event in enumerate(store.log.read(after=position, upto=head)):
        if count == _MOST:
            return ChangedSessions(head, all=True)
        ids[event.stream] = None
        if event.type == SessionStarted.type:
            payload = codec.decode(event)
            if isinstance(payload, SessionStarted):
                found.started += not payload.ancestors
                ids.update((above.session_id, None) for above in payload.ancestors)
        elif event.seq == 1:  # a statement about a session
            about = getattr(codec.decode(event), "about", None)
            if isinstance(about, str):
                ids[about] = None
    found.sessions = list(ids)
    return found


async def messages(
    store: LogStore, position: int | None, gone: Callable[[], Awaitable[bool]]
) -> AsyncIterator[bytes]:
    """Yield the messages of a stream of server-sent events, as long as the browser listens.

    Args:
        store: The store to read from.
        position: The last position that the page shows; None for the present end of the log.
        gone: A function that returns True when the browser no longer listens.

    Yields:
        A message, in UTF-8, about everything that is new since the message before.
    """
    seen = await run_in_threadpool(store.log.head) if position is None else position
    yield b": the sessions with new events\nretry: 1000\n\n"
    silent = 0.0
    while not await gone():
        found = await run_in_threadpool(changes_after, store, seen)
        if found is not None:
            seen, silent = found.position, 0.0
            data = json.dumps(msgspec.to_builtins(found))
            yield f"id: {seen}\ndata: {data}\n\n".encode()
        elif silent >= _SILENCE:
            silent = 0.0
            yield b": nothing new\n\n"
        await asyncio.sleep(POLL)
        silent += POLL
