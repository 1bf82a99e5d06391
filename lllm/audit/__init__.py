"""Shows a log as evidence to somebody who does not trust the store.

    checkpoint   the size and the root of a log's Merkle tree, as text (C2SP tlog-checkpoint)
    signed_note  a text with signatures under it (C2SP signed-note)
    keys         Ed25519 keys and their files
    ed25519      signs and checks, by a library
    base64_text  base64 that has one text for one value
    anchoring    seals with a timestamp (RFC 3161) and cosignatures of witnesses (C2SP)

The tree itself is in `lllm.events.integrity.merkle`. Signatures need the extra `audit`.
"""
