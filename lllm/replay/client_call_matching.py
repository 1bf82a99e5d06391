"""Finds the recorded call of a captured client that answers a request of a replay.

A call is found by all that it sends: its settings and its messages. Each of several equal calls is
served once. A request that equals none of them is compared with the next recorded call of its
conversation.
"""

from __future__ import annotations

from collections import deque

from lllm.events.concurrency.robust_locks import ThreadLock
from lllm.replay.client_requests import ClientComparing, ClientRequest, ComparedRequest
from lllm.replay.comparison import Comparison, content_of, diff_of, message_lines, setting_lines
from lllm.replay.recorded_clients import ClientCall
from lllm.replay.recorded_session import RecordedSession


class ClientCalls:
    """The recorded calls of one session that were not served yet.

    Args:
        session: The recorded session that has the calls.
        comparing: Brings requests into the form in which they are compared.
    """

    def __init__(self, session: RecordedSession, comparing: ClientComparing) -> None:
        self._session = session
        self._comparing = comparing
        self._lock = ThreadLock()
        self._left = dict(session.captured)
        self._forms: dict[int, ComparedRequest] = {}
        self._equal: dict[bytes, deque[int]] = {}
        self._equal_but_for_ignored: dict[bytes, deque[int]] = {}
        self._set_aside: set[int] = set()
        self._went_on: dict[bytes, int] = {}  # by a conversation that differs: the recorded one
        for step, call in session.captured.items():
            contents = [content_of(event) for _, event in session.messages(call.requested)]
            form = comparing.recorded(call.requested, call.definition, contents)
            self._forms[step] = form
            self._equal.setdefault(form.key, deque()).append(step)
            if comparing.ignores:
                key = comparing.without_ignored(form).key
                self._equal_but_for_ignored.setdefault(key, deque()).append(step)

    def serve(
        self, asked: ClientRequest, *, only_equal: bool = False
    ) -> tuple[ClientCall | None, Comparison, bool]:
        """Find the recorded call that a request repeats, and take it.

        Args:
            asked: The request of the client.
            only_equal: True to take only an equal call; False to take the nearest one otherwise.

        Returns:
            The recorded call, or None if none fits; the result of the comparison; and True if an
            equal call was recorded, even if it is already served.
        """
        with self._lock.held():
            plain = self._comparing.asked(asked)
            found = self._take(self._equal, plain.key)
            if found is not None:
                return found, Comparison("same"), True
            redacted = self._comparing.redacted(asked)
            found = self._take(self._equal, redacted.key)
            if found is not None:
                return found, Comparison("same"), True
            again = plain.key in self._equal or redacted.key in self._equal
            if self._comparing.ignores:
                key = self._comparing.without_ignored(redacted).key
                found = self._take(self._equal_but_for_ignored, key)
                if found is not None:
                    return found, Comparison("ignored"), True
                again = again or key in self._equal_but_for_ignored
            nearest = None if again or only_equal else self._nearest(redacted)
            if nearest is None:
                return None, Comparison("diverged"), again
            del self._left[nearest.step]
            self._went_on[redacted.chain[-1]] = nearest.dialog
            return nearest, self._difference(redacted, self._forms[nearest.step]), False

    def _take(self, equal: dict[bytes, deque[int]], key: bytes) -> ClientCall | None:
        steps = equal.get(key)
        while steps:
            found = self._left.pop(steps.popleft(), None)
            if found is not None:
                return found
        return None

    def _nearest(self, asked: ComparedRequest) -> ClientCall | None:
        """Find the remaining call that a request most likely repeats, with changes."""
        left = [call for call in self._left.values() if call.step not in self._set_aside]
        gone = (self._went_on.get(beginning) for beginning in reversed(asked.chain))
        dialog = next((one for one in gone if one is not None), None)
        same = [call for call in left if call.dialog == dialog] or left
        length = len(asked.chain)

        def distance(call: ClientCall) -> tuple[bool, int, bool, int]:
            form = self._forms[call.step]
            pairs = zip(form.chain[1:], asked.chain[1:], strict=False)
            shared = sum(1 for one, other in pairs if one == other)
            other = form.settings["operation"] != asked.settings["operation"]
            return other, -shared, len(form.chain) != length, call.step

        return min(same, key=distance, default=None)

    def set_aside(self, call: ClientCall) -> None:
        """Note that a call was made within a tool that does not run, so no request repeats it.

        Args:
            call: The recorded call.
        """
        self._set_aside.add(call.step)

    def _difference(self, now: ComparedRequest, recorded: ComparedRequest) -> Comparison:
        differs: list[str] = []
        before: list[str] = []
        after: list[str] = []
        for name, value in now.settings.items():
            if value != recorded.settings[name]:
                differs.append(name)
                before += setting_lines(name, recorded.settings[name])
                after += setting_lines(name, value)
        pairs = zip(now.chain, recorded.chain, strict=False)
        shared = sum(1 for one, other in pairs if one == other) - 1
        if len(now.chain) != len(recorded.chain) or shared < len(now.contents):
            both = [*now.contents[shared : shared + 1], *recorded.contents[shared : shared + 1]]
            roles = {content.role for content in both}
            differs.insert(0, "system prompt" if roles == {"system"} else "messages")
            start = max(shared - 1, 0)
            for contents, lines in ((recorded.contents, before), (now.contents, after)):
                for index, content in enumerate(contents[start:], start):
                    lines += message_lines(self._comparing.plain(index, content))
        return Comparison("diverged", tuple(differs), diff_of(before, after))
