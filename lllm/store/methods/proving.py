"""Seal the log, and prove sessions from a seal."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lllm.events.errors import LogUnavailable
from lllm.store.methods.store_parts import StoreParts

if TYPE_CHECKING:
    from lllm.audit.anchoring import Seal
    from lllm.audit.cosignature import WitnessKey
    from lllm.audit.keys import PrivateKey, PublicKey
    from lllm.audit.proof import Proof


class ProvesSessions(StoreParts):
    """Seal the log, and prove sessions from a seal. See LogStore."""

    def seal(
        self,
        *,
        key: PrivateKey | None = None,
        timestamp: str | None = None,
        witnesses: Sequence[str] = (),
        authorities: Sequence[str | os.PathLike[str]] = (),
        witness_keys: Sequence[WitnessKey] = (),
        optional_anchors: bool = False,
    ) -> Seal:
        """Make a checkpoint of the log: its size, and the root of its Merkle tree.

        Keep it outside of the store: with it, `lllm verify --checkpoint` finds every earlier event
        that was changed, removed or added. A timestamp and witnesses show to others that it existed
        at a time at the latest.

        Args:
            key: The key that signs the checkpoint; see `lllm.audit.keys`. None to leave it
                unsigned.
            timestamp: The URL of a time-stamping authority (RFC 3161); None for none.
            witnesses: The URLs of witnesses (C2SP tlog-witness), which cosign it; they need a key.
            authorities: Files with certificates, in PEM, of which one must stand behind the
                timestamp; none to check that later.
            witness_keys: The keys of the witnesses, which must have made the cosignatures; none to
                check that later.
            optional_anchors: True to make the seal also without a timestamp or a cosignature that
                can't be had, and to log that; False to raise AuditError then.

        Returns:
            The content of the file to keep, as text: a C2SP tlog-checkpoint, or with a key, a
            signed note. Its `timestamp` is the content of a second file, and its `write(path)`
            writes both.

        Raises:
            LogUnavailable: Events wait in memory, because the log can't be written.
            SealRefused: A witness has cosigned a checkpoint that this one contradicts.
            AuditError: A timestamp or a cosignature can't be had. Each answer is waited for 10
                seconds.
            LogError: The log can't be read.
            MissingExtra: One of these is given, and the extra `audit` is not installed.
        """
        from lllm.audit.anchoring import Seal, SealAnchors, anchored

        anchors = SealAnchors(timestamp, witnesses, authorities, witness_keys, optional_anchors)
        self._require_written("a seal")
        self._rows.catch_up()
        made = anchored(self.log, self._rows.ask, key, anchors)
        return Seal(made.content, made.timestamp)

    def prove(
        self,
        session_id: str,
        checkpoint: str,
        *,
        redacted: bool = False,
        event: int | None = None,
        children: bool = False,
        related: bool = False,
        key: PublicKey | None = None,
    ) -> Proof:
        """Prove that a session is in the log, to somebody who does not have the store.

        For a session that has ended, the proof also shows that no event of it is missing. For any
        other, it shows the events that were there when the checkpoint was made.

        Args:
            session_id: The whole id.
            checkpoint: A text that `seal` returned after the session had ended.
            redacted: True to show no payloads, only types, times and commitments.
            event: The number of the only event to prove; None for all events of the session.
            children: True to prove its child sessions, too.
            related: True to prove later events about it, such as changes of tags, and the
                definitions of its agents, too.
            key: The public key that signed the checkpoint, to be included in the file; None for
                none.

        Returns:
            The proof. `proof.text()` is the content of its file, and
            `lllm.audit.proof_page.proof_page` makes a web page of it. `lllm verify --proof FILE` or
            `lllm.audit.check_proof` checks it on any machine.

        Raises:
            SessionNotFound: There is no such session.
            AuditError: The checkpoint is not of this log, or is older than an event to prove.
            LogDamaged: An event of the session is corrupt.
            LogUnavailable: Events wait in memory, because the log can't be written.
        """
        from lllm.audit.log_tree import LogTree
        from lllm.audit.prove import make_proof

        self._require_written("a proof")
        streams = self._reader.streams(session_id, children=children, related=related)
        tree = LogTree(self.log, self._rows.ask)
        return make_proof(streams, tree, checkpoint, redacted=redacted, seq=event, key=key)

    def _require_written(self, what: str) -> None:
        if not self.log.write_held():
            raise LogUnavailable(
                f"Events wait in memory, because the log can't be written; {what} would not "
                "include them."
            )
