"""Has a witness cosign a checkpoint, by C2SP's protocol (https://c2sp.org/tlog-witness).

No request exists that asks what size of the log the witness knows. It answers a request with a
wrong size by the size that it knows (409); the next request proves that the log has merely grown
since.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from lllm.audit.base64_text import encoded
from lllm.audit.checkpoint import parse_checkpoint
from lllm.audit.cosignature import WitnessKey, is_cosignature
from lllm.audit.http_post import PostAnswer, post
from lllm.audit.log_tree import AskRows, LogTree
from lllm.audit.signed_note import MAX_SIGNATURES, Signature, SignedNote, parse_signature
from lllm.events.backend import LogBackend
from lllm.events.errors import AuditError, SealRefused
from lllm.events.integrity.merkle import consistency_proof
from lllm.invokers.http.opener import shown_url

_SIZE = re.compile(rb"(0|[1-9][0-9]{0,18})\n?")
_TRIES = 4  # other processes may have the same log cosigned meanwhile
_SHOWN = 200  # characters of an answer that are shown
_REASONS = {
    403: "it knows another key for this log, and the checkpoint is not signed with that",
    404: "it does not know this log: its operator has to add the log's name and public key",
    429: "it was asked too often: try again later",
    503: "it is not available now: try again later",
}


class Witness:
    """A witness that cosigns a log's checkpoints.

    Args:
        url: The address of the witness, to which `/add-checkpoint` is appended.
        log: The log that is sealed.
        ask: Asks the database of the log's views; see `AsksRows`.
        keys: The keys of trusted witnesses, with which the cosignatures are checked at once; empty
            to check them later.
    """

    def __init__(
        self, url: str, log: LogBackend, ask: AskRows, keys: Sequence[WitnessKey] = ()
    ) -> None:
        self._url = f"{url.rstrip('/')}/add-checkpoint"
        self._who = f"The witness {shown_url(url)}"
        self._log = log
        self._ask = ask
        self._keys = keys

    def cosign(self, note: SignedNote) -> tuple[Signature, ...] | None:
        """Have the witness cosign a checkpoint.

        Args:
            note: The signed checkpoint.

        Returns:
            The cosignatures; None if the witness meanwhile cosigned a later checkpoint of the log,
            so a new checkpoint is needed.

        Raises:
            SealRefused: The witness has cosigned a checkpoint that contradicts this one.
            AuditError: The witness can't be reached, or refuses for another reason.
            LogError: The log can't be read.
        """
        size = parse_checkpoint(note.text).size
        old = 0
        for _ in range(_TRIES):
            answer = post(self._url, self._body(note, old, size), "text/plain; charset=utf-8")
            if answer.status == 200:
                return self._cosignatures(note, answer)
            if answer.status == 422 and old:
                raise self._contradiction(old)
            if answer.status != 409:
                raise self._does_not_cosign(answer)
            known = _SIZE.fullmatch(answer.body)
            if known is None:
                raise AuditError(f"{self._who} answers 409 without the size that it knows.")
            last, old = old, int(known[1])
            if old > size:
                self._check_end(old)
                return None
            if old == last == size:
                raise self._contradiction(old)
        raise AuditError(
            f"{self._who} answered with another size each time: others seal this log at the same "
            "time, or the witness does not work. Try again."
        )

    def _body(self, note: SignedNote, old: int, size: int) -> bytes:
        path = []
        if 0 < old < size:
            path = consistency_proof(old, size, LogTree(self._log, self._ask).read)
        proof = "".join(f"{encoded(one)}\n" for one in path)
        return f"old {old}\n{proof}\n{note.content()}".encode()

    def _cosignatures(self, note: SignedNote, answer: PostAnswer) -> tuple[Signature, ...]:
        """Read the cosignatures in an answer; if witnesses are trusted, only theirs."""
        try:
            lines = answer.body.decode().removesuffix("\n").split("\n")
            found = [parse_signature(line) for line in lines]
        except (AuditError, UnicodeDecodeError) as error:
            raise AuditError(f"{self._who} answers with no cosignature: {error}") from error
        ours = {(one.name, one.key_id) for one in note.signatures}
        found = [one for one in found if is_cosignature(one) and (one.name, one.key_id) not in ours]
        if self._keys:
            known = {(key.name, key.key_id): key for key in self._keys}
            found = [one for one in found if (one.name, one.key_id) in known]
            for one in found:
                key = known[one.name, one.key_id]
                if not key.verifies(one.signature, note.text.encode()):
                    raise AuditError(
                        f"{self._who} sent a cosignature that does not match the checkpoint."
                    )
        if not 0 < len(found) + len(ours) <= MAX_SIGNATURES or not found:
            given = " of a witness whose key was given" if self._keys else ""
            raise AuditError(f"{self._who} answers with no cosignature{given}.")
        return tuple(found)

    def _check_end(self, known: int) -> None:
        """If the witness knows a larger log, check that this log has now reached that size."""
        size = LogTree(self._log, self._ask).size
        if size < known:
            raise SealRefused(
                f"{self._who} has cosigned {known:,} events of this log, and it has {size:,} now: "
                "its end is missing, or another log is in its place. Nothing was cosigned. Look "
                "for a backup; `lllm verify --checkpoint` with an earlier seal tells more."
            )

    def _contradiction(self, known: int) -> SealRefused:
        return SealRefused(
            f"{self._who} has cosigned {known:,} events of this log, and they are not those with "
            "which it begins now: it was altered since, or another log is in its place. Nothing "
            "was cosigned. `lllm verify --checkpoint` with an earlier seal tells more."
        )

    def _does_not_cosign(self, answer: PostAnswer) -> AuditError:
        said = answer.body[:_SHOWN].decode("utf-8", "replace").strip()
        reason = _REASONS.get(answer.status, said or "it does not say why")
        return AuditError(f"{self._who} does not cosign (HTTP status {answer.status}): {reason}.")
