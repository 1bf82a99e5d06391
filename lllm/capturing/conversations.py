"""Which conversation a request goes on with.

An API is sent a conversation anew with every turn. Here the messages are compared with those that
the session has: what another request, or an answer, said already is not written again, so that a
conversation of n turns costs O(n). Where it goes another way than before, it is a fork.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from weakref import WeakKeyDictionary

from lllm.dialog import Dialog
from lllm.events import codec
from lllm.events.locks import ThreadLock
from lllm.events.model import Content, DialogOpened, MessageAdded
from lllm.events.recorder import Recorder


class Conversations:
    """The dialogs of one session, found by how they begin. Safe in any number of threads.

    A dialog that waits for an answer is nobody else's: who asks the same meanwhile gets a fork, so
    that each answer has its place.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._lock = ThreadLock()
        self._waiting: set[int] = set()
        self._beginnings: dict[bytes, tuple[Dialog, int]] = {}  # a dialog, and how much of it
        self._digests: dict[int, bytes] = {}  # of all of each dialog, by its number

    def going_on(self, contents: Sequence[Content], agent: str) -> Dialog:
        """The dialog that holds these messages; what is new of them is staged as events. It waits
        for an answer until `left`."""
        digests = _chained(contents)
        with self._lock.held():
            return self._going_on(contents, digests, agent)

    def _going_on(
        self, contents: Sequence[Content], digests: Sequence[bytes], agent: str
    ) -> Dialog:
        known = next(
            (
                length
                for length in range(len(contents), 0, -1)
                if digests[length] in self._beginnings
            ),
            0,
        )
        dialog = self._from(digests[known], known, agent)
        for content, digest in zip(contents[known:], digests[known + 1 :], strict=True):
            ordinal = self._recorder.ordinal("message")
            self._recorder.stage(
                MessageAdded(
                    message=ordinal, dialog=dialog.number, content=content, why=_why(content.role)
                )
            )
            self._enter(dialog, ordinal, content, digest)
        self._waiting.add(dialog.number)
        return dialog

    def left(self, dialog: Dialog) -> None:
        """Nobody waits for an answer in a dialog any more."""
        with self._lock.held():
            self._waiting.discard(dialog.number)

    def answered(self, dialog: Dialog, ordinal: int, content: Content) -> None:
        """A dialog got its answer, which stands in an event of its own."""
        with self._lock.held():
            self._enter(dialog, ordinal, content, _digest(self._digests[dialog.number], content))

    def _enter(self, dialog: Dialog, ordinal: int, content: Content, digest: bytes) -> None:
        dialog.add(ordinal, content)
        self._beginnings.setdefault(digest, (dialog, len(dialog)))
        self._digests[dialog.number] = digest

    def _from(self, digest: bytes, length: int, agent: str) -> Dialog:
        parent, upto = self._beginnings.get(digest, (None, 0))
        if parent is not None and upto == len(parent) and parent.number not in self._waiting:
            return parent
        number = self._recorder.ordinal("dialog")
        alias = f"conversation {number}"
        if parent is None:
            dialog = Dialog(number, alias)
            self._recorder.stage(DialogOpened(dialog=number, agent=agent, alias=alias))
        else:
            dialog = parent.forked(number, alias, upto=length)
            self._recorder.stage(
                DialogOpened(
                    dialog=number, agent=agent, alias=alias,
                    parent=parent.number, upto=dialog.last_ordinal,
                )
            )  # fmt: skip
        self._digests[number] = digest
        return dialog


_of_recorders: WeakKeyDictionary[Recorder, Conversations] = WeakKeyDictionary()
_finding = ThreadLock()


def conversations_of(recorder: Recorder) -> Conversations:
    """The conversations of a session, by its recorder; they are gone when it is."""
    with _finding.held():
        found = _of_recorders.get(recorder)
        if found is None:
            found = _of_recorders[recorder] = Conversations(recorder)
        return found


def _chained(contents: Sequence[Content]) -> list[bytes]:
    """The digest of each beginning, that of no message first."""
    digests = [b""]
    for content in contents:
        digests.append(_digest(digests[-1], content))
    return digests


def _digest(before: bytes, content: Content) -> bytes:
    return hashlib.sha256(before + codec.encode(content)).digest()


def _why(role: str) -> str:
    return "system" if role == "system" else "user"
