"""Erases payloads of a log in JetStream: the messages are overwritten and deleted, one by one.

What takes a payload's place is stored first, so that an event can be read at any time. The server
overwrites a deleted message with random bytes in its file on every replica. What its Raft log and
snapshots keep is named by `COPIES_ELSEWHERE`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lllm.events.backends.jetstream.connection import NatsConnection, ServerError
from lllm.events.backends.jetstream.messages import Subjects
from lllm.events.backends.jetstream.read_events import JetStreamReader
from lllm.events.backends.jetstream.stream_requests import Outgoing, call_api, store_batch
from lllm.events.envelope import Recorded
from lllm.events.errors import LogUnavailable

if TYPE_CHECKING:
    from nats.aio.client import Client

COPIES_ELSEWHERE = (
    "the Raft logs of the stream on each server, until their next snapshot compacts them",
    "a replica that is down now, until it has caught up; and backups of the stream",
)
_GONE = (10037, 10043, 10057)  # the server's codes: there is no such message any more
_AT_ONCE = 200


class MessageEraser:
    """Erases payloads in one log.

    Args:
        connection: The connection to the cluster.
        reader: Reads the log.
        subjects: The subjects of the log.
        shown: The log's URL for messages.
        timeout: Seconds for an answer.
    """

    def __init__(
        self, connection: NatsConnection, reader: JetStreamReader, subjects: Subjects, shown: str,
        timeout: float,
    ) -> None:  # fmt: skip
        self._connection = connection
        self._reader = reader
        self._subjects = subjects
        self._shown = shown
        self._timeout = timeout

    def erase(self, erased: Sequence[Recorded]) -> None:
        """Erase the payloads of some events; see `ErasesPayloads.erase_payloads`.

        Args:
            erased: The events without their payloads, as `digest.erase` makes them.

        Raises:
            LogUnavailable: The server can't be reached, or refuses.
        """
        parts = self._reader.parts_of({one.stream for one in erased})
        for begin in range(0, len(erased), _AT_ONCE):
            part = erased[begin : begin + _AT_ONCE]
            places = [Outgoing(self._subjects.erased(one.position), one.data) for one in part]
            sequences = [
                one.position + number for one in part for number in range(parts[one.position])
            ]

            async def run(
                client: Client,
                places: Sequence[Outgoing] = places,
                sequences: Sequence[int] = sequences,
            ) -> None:
                await store_batch(client, places, self._timeout)
                for sequence in sequences:
                    await self._delete(client, sequence)

            try:
                self._connection.run(run, self._timeout + len(sequences))
            except ServerError as error:
                raise LogUnavailable(f"{self._shown}: {error}") from None

    async def _delete(self, client: Client, sequence: int) -> None:
        request = {"seq": sequence, "no_erase": False}
        try:
            await call_api(
                client, f"STREAM.MSG.DELETE.{self._subjects.root}", request, self._timeout
            )
        except ServerError as error:
            if error.code not in _GONE:
                raise
