"""Iterates over the events of a log, and waits for new ones at its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from lllm.events.backend import Announcements, AnnouncesAppends, LogBackend
from lllm.events.envelope import Recorded
from lllm.events.errors import LogDamaged

_SHORTER_LOOKS = 3  # after so many looks in a row at a log that is too short, its end is lost


class _Polling:
    """Announcements of a log that makes none."""

    silence = 0.0

    def __enter__(self) -> _Polling:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def wait(self, seconds: float) -> bool:
        """Let the caller look at the log after some seconds."""
        time.sleep(seconds)
        return True


def announcements(log: LogBackend) -> Announcements:
    """Prepare to wait for appends to any log, also to one that announces none.

    Args:
        log: The backend, of any class.

    Returns:
        A context manager; if the log makes no announcements, its `wait` only waits.
    """
    if isinstance(log, AnnouncesAppends):
        return log.announcements()
    return _Polling()


def follow(
    log: LogBackend,
    *,
    after: int | None = None,
    poll: float = 0.1,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Recorded]:
    """Iterate over the events of a log, and wait for new ones at its end.

    Args:
        log: The backend, of any class.
        after: Begin after this position; None for the current head.
        poll: Seconds between two looks at the log; a log that announces appends is looked at when
            it announces one.
        stop: A function that is called between two looks; the iterator ends when it returns true.

    Yields:
        The events, in order of their positions.

    Raises:
        LogDamaged: The log has become shorter than the position that was read. An older copy has
            replaced it, and its new events would get positions that were read already.
    """
    with announcements(log) as news:
        yield from _follow(log, log.head() if after is None else after, poll, stop, news)


def _follow(
    log: LogBackend, position: int, poll: float, stop: Callable[[], bool], news: Announcements
) -> Iterator[Recorded]:
    shorter = 0  # looks in a row
    while True:
        seen = position
        for event in log.read(after=position):
            position = event.position
            yield event
        if stop():
            return
        if position == seen:
            # While another process writes, the head may be lower for a moment.
            head = log.head()
            shorter = shorter + 1 if head < position else 0
            if shorter > _SHORTER_LOOKS:
                raise LogDamaged(
                    f"{log!r} was read up to position {position}, and ends at {head} now: its end "
                    "was deleted, or an older copy was put in its place. Put it back, or read it "
                    "from the beginning.",
                    position=position,
                )
            until = time.monotonic() + news.silence
            while not news.wait(poll) and time.monotonic() < until and not stop():
                pass
