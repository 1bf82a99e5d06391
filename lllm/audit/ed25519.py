"""Signs and checks with Ed25519, by the library `cryptography` of the extra `audit`.

The library is imported when the first signature is made or checked
(https://www.rfc-editor.org/rfc/rfc8032, https://cryptography.io/en/latest/hazmat/primitives/asymmetric/ed25519/).
"""

from __future__ import annotations

import importlib.util

from lllm.events.concurrency.late_imports import importing
from lllm.events.errors import MissingExtra

KEY_BYTES = 32  # of a public key, and of the seed that is the private one


def public_key(seed: bytes) -> bytes:
    """Compute the public key that belongs to a private key.

    Args:
        seed: The private key, 32 bytes.

    Returns:
        The public key, 32 bytes.

    Raises:
        MissingExtra: The extra `audit` is not installed.
    """
    _require()
    with importing():
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def sign(seed: bytes, message: bytes) -> bytes:
    """Sign a message.

    Args:
        seed: The private key, 32 bytes.
        message: The bytes to sign.

    Returns:
        The signature, 64 bytes.

    Raises:
        MissingExtra: The extra `audit` is not installed.
    """
    _require()
    with importing():
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(seed).sign(message)


def verifies(key: bytes, signature: bytes, message: bytes) -> bool:
    """Check a signature.

    Args:
        key: The public key, 32 bytes.
        signature: The signature, 64 bytes.
        message: The bytes that should have been signed.

    Returns:
        True if the signature was made with the private key that belongs to `key`.

    Raises:
        MissingExtra: The extra `audit` is not installed.
    """
    _require()
    with importing():
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _require() -> None:
    if importlib.util.find_spec("cryptography") is None:
        raise MissingExtra(
            "Signatures need the library 'cryptography', which is not installed. It is in an "
            'extra: pip install "lllm[audit]"'
        )
