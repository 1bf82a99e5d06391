"""Which conversation a request goes on with.

An API is sent a conversation anew with every turn. Here the messages are compared with those that
the session has: what another request, or an answer, said already is not written again, so that a
conversation of n turns costs O(n). Where it goes another way than before, it is a fork.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from weakref import WeakKeyDictionary

from lllm.events import codec
from lllm.events.locks import ThreadLock
from lllm.events.model import Content, DialogOpened, MessageAdded
from lllm.events.recorder import Recorder


class Told:
    """A conversation by the ordinals and digests of its messages. What they say stands in the log,
    and is not kept: a session may last for days. number: its ordinal in the session."""

    def __init__(self, number: int, messages: Sequence[tuple[int, bytes]] = ()) -> None:
        self.number = number
        self._messages = list(messages)

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def last_ordinal(self) -> int | None:
        """The ordinal of its last message; None while it is empty."""
        return self._messages[-1][0] if self._messages else None

    def add(self, ordinal: int, content: Content) -> None:
        """Append a message that an event carries under this ordinal."""
        self._messages.append((ordinal, hashlib.sha256(codec.encode(content)).digest()))

    def forked(self, number: int, *, upto: int) -> Told:
        """One that begins with its first `upto` messages."""
        return Told(number, self._messages[:upto])

    def digest(self, salt: bytes, *, asked: object) -> str:
        """The digest of a request with all of its messages, as `Dialog.digest` makes it."""
        digest = hmac.new(salt, codec.encode(asked), "sha256")
        for _, one in self._messages:
            digest.update(one)
        return digest.hexdigest()


class Conversations:
    """The dialogs of one session, found by how they begin. Safe in any number of threads.

    A dialog that waits for an answer is nobody else's: who asks the same meanwhile gets a fork, so
    that each answer has its place.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._lock = ThreadLock()
        self._waiting: set[int] = set()
        self._beginnings: dict[bytes, tuple[Told, int]] = {}  # a dialog, and how much of it
        self._digests: dict[int, bytes] = {}  # of all of each dialog, by its number

    def going_on(self, contents: Sequence[Content], agent: str) -> Told:
        """The dialog that holds these messages; what is new of them is staged as events. It waits
        for an answer until `left`."""
        digests = _chained(contents)
        with self._lock.held():
            return self._going_on(contents, digests, agent)

    def _going_on(self, contents: Sequence[Content], digests: Sequence[bytes], agent: str) -> Told:
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

    def left(self, dialog: Told) -> None:
        """Nobody waits for an answer in a dialog any more."""
        with self._lock.held():
            self._waiting.discard(dialog.number)

    def answered(self, dialog: Told, ordinal: int, content: Content) -> None:
        """A dialog got its answer, which stands in an event of its own."""
        with self._lock.held():
            self._enter(dialog, ordinal, content, _digest(self._digests[dialog.number], content))

    def _enter(self, dialog: Told, ordinal: int, content: Content, digest: bytes) -> None:
        dialog.add(ordinal, content)
        self._beginnings.setdefault(digest, (dialog, len(dialog)))
        self._digests[dialog.number] = digest

    def _from(self, digest: bytes, length: int, agent: str) -> Told:
        parent, upto = self._beginnings.get(digest, (None, 0))
        if parent is not None and upto == len(parent) and parent.number not in self._waiting:
            return parent
        number = self._recorder.ordinal("dialog")
        alias = f"conversation {number}"
        if parent is None:
            dialog = Told(number)
            self._recorder.stage(DialogOpened(dialog=number, agent=agent, alias=alias))
        else:
            dialog = parent.forked(number, upto=length)
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
