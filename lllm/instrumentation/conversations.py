"""Finds the conversation that a request continues.

With every turn, a client sends the whole conversation again. Its messages are compared with those
that the session has already, and only new ones are written, so a conversation of n turns takes O(n)
space. If a request departs from the known conversation, it becomes a fork of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from weakref import WeakKeyDictionary, ref

from lllm.agents.dialog import request_digest
from lllm.events.concurrency.robust_locks import ThreadLock
from lllm.events.errors import SessionEnded
from lllm.events.model import Content, DialogOpened, MessageAdded
from lllm.events.recorder import Recorder
from lllm.instrumentation.body_prefixes import BodiesBegun
from lllm.instrumentation.resent_answers import chained, digests_of, sent_apart


class ConversationDigest:
    """A conversation, kept as the ordinals and digests of its messages.

    The texts are in the log and not kept in memory, because a session may last for days.

    Args:
        number: The number of the conversation within its session.
        ordinals: The numbers of its messages within the session.
        digests: The digests of its messages, concatenated.
    """

    def __init__(
        self, number: int, ordinals: Sequence[int] = (), digests: bytes | bytearray = b""
    ) -> None:
        self.number = number
        self._ordinals = list(ordinals)
        self._digests = bytearray(digests)  # concatenated

    def __len__(self) -> int:
        return len(self._ordinals)

    @property
    def last_ordinal(self) -> int | None:
        """The ordinal of the last message; None if there is none."""
        return self._ordinals[-1] if self._ordinals else None

    def add(self, ordinal: int, digest: bytes) -> None:
        """Append a message, given its digest and its ordinal in the events."""
        self._digests += digest
        self._ordinals.append(ordinal)

    def forked(self, number: int, *, upto: int) -> ConversationDigest:
        """Make a conversation of the first `upto` messages."""
        return ConversationDigest(
            number, self._ordinals[:upto], self._digests[: upto * _DIGEST_BYTES]
        )

    def digest(self, salt: bytes, *, asked: object) -> str:
        """Calculate the digest of a request for the next message; see `Dialog`."""
        return request_digest(salt, asked, (bytes(self._digests),))


_DIGEST_BYTES = 32


class Conversations:
    """The dialogs of one session, found by their first messages. Threads may share it.

    A dialog that waits for an answer is reserved. If the same request is made again meanwhile, it
    gets a fork, so that each answer has its own place.
    """

    def __init__(self, recorder: Recorder) -> None:
        self.bodies = BodiesBegun()  # the session's recent request bodies
        # weak, because _of_recorders would otherwise keep every recorder, and with it all of this
        self._recorder_ref = ref(recorder)
        self._lock = ThreadLock()
        self._waiting: set[int] = set()
        self._beginnings: dict[
            bytes, tuple[ConversationDigest, int]
        ] = {}  # the dialog and the number of its messages
        # the digests of all messages of each dialog, by the dialog's number: one for each form in
        # which a client may send them
        self._wholes: dict[int, tuple[bytes, ...]] = {}

    @property
    def _recorder(self) -> Recorder:
        recorder = self._recorder_ref()
        if recorder is None:
            raise SessionEnded("The session of this conversation does not exist any more.")
        return recorder

    def going_on(
        self, contents: Sequence[Content], beginnings: list[bytes] | None = None
    ) -> ConversationDigest:
        """Find the dialog that some messages continue; new messages are staged as events.

        Args:
            contents: The messages, without those that `beginnings` covers.
            beginnings: The digests of the known messages that precede `contents`: the first is that
                of no message, the last that of all. The digests of `contents` are appended to it.
                None if nothing precedes them.

        Returns:
            The dialog. It is reserved for this request until `left` is called.
        """
        if beginnings is None:
            beginnings = [b""]
        before = len(beginnings) - 1
        digests = []
        for content in contents:
            own, compared = digests_of(content)
            digests.append(own)
            beginnings.append(chained(beginnings[-1], compared))
        with self._lock.held():
            return self._going_on(contents, digests, beginnings, before)

    def _going_on(
        self,
        contents: Sequence[Content],
        digests: Sequence[bytes],
        beginnings: Sequence[bytes],
        before: int,
    ) -> ConversationDigest:
        lengths = range(len(beginnings) - 1, before, -1)
        known = next(
            (length for length in lengths if beginnings[length] in self._beginnings), before
        )
        dialog, opened = self._from(beginnings[known])
        new = range(known - before, len(contents))
        added = [
            MessageAdded(
                message=self._recorder.ordinal("message"),
                dialog=dialog.number,
                content=contents[place],
                why="system" if contents[place].role == "system" else "user",
            )
            for place in new
        ]
        if opened or added:
            self._recorder.stage(*opened, *added)
        self._wholes[dialog.number] = (beginnings[known],)
        for place, event in zip(new, added, strict=True):
            self._enter(dialog, event.message, digests[place], (beginnings[before + place + 1],))
        self._waiting.add(dialog.number)
        return dialog

    def left(self, dialog: ConversationDigest) -> None:
        """Stop expecting an answer in a dialog."""
        with self._lock.held():
            self._waiting.discard(dialog.number)

    def answered(self, dialog: ConversationDigest, ordinal: int, content: Content) -> None:
        """Add an answer, which has its own event, to its dialog."""
        digest, compared = digests_of(content)
        apart = [digests_of(part)[1] for part in sent_apart(content)]
        with self._lock.held():
            wholes = self._wholes[dialog.number]
            forms = [chained(whole, compared) for whole in wholes]
            if apart:
                forms += [reduce(chained, apart, whole) for whole in wholes]
            self._enter(dialog, ordinal, digest, tuple(forms))

    def _enter(
        self, dialog: ConversationDigest, ordinal: int, digest: bytes, wholes: tuple[bytes, ...]
    ) -> None:
        """Add a message to a dialog; `wholes` are the digests of all its messages, in each form."""
        dialog.add(ordinal, digest)
        self._wholes[dialog.number] = wholes
        for whole in wholes:
            self._beginnings.setdefault(whole, (dialog, len(dialog)))

    def _from(self, beginning: bytes) -> tuple[ConversationDigest, list[DialogOpened]]:
        """Find the dialog that continues a beginning, and the event that opens it if it is new."""
        parent, upto = self._beginnings.get(beginning, (None, 0))
        if parent is not None and upto == len(parent) and parent.number not in self._waiting:
            return parent, []
        number = self._recorder.ordinal("dialog")
        alias = f"conversation {number}"
        if parent is None:
            return ConversationDigest(number), [DialogOpened(dialog=number, agent="", alias=alias)]
        dialog = parent.forked(number, upto=upto)
        opened = DialogOpened(
            dialog=number, agent="", alias=alias, parent=parent.number, upto=dialog.last_ordinal
        )
        return dialog, [opened]


_of_recorders: WeakKeyDictionary[Recorder, Conversations] = WeakKeyDictionary()
_finding = ThreadLock()


def conversations_of(recorder: Recorder) -> Conversations:
    """Get the conversations of a session.

    Args:
        recorder: The recorder of the session; the conversations are freed with it.

    Returns:
        The session's conversations; the same object at each call.
    """
    found = _of_recorders.get(recorder)
    if found is not None:
        return found
    with _finding.held():
        found = _of_recorders.get(recorder)
        if found is None:
            found = _of_recorders[recorder] = Conversations(recorder)
        return found
