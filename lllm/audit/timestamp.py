"""Has an authority sign the time at which a seal existed, and checks that signature later.

The timestamp is an RFC 3161 response (https://www.rfc-editor.org/rfc/rfc3161) for the seal's file
as it is, cosignatures included. It is kept in a file of its own beside the seal, with `.tsr` at the
end of its name. It can't be a line of the seal: such a line would have to exist before it is
signed, and C2SP defines no signature type for it. Other tools can check it, too: `openssl ts
-verify -data SEAL -in SEAL.tsr -CAfile ROOT.pem`.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import importlib.util
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lllm.audit.http_post import post
from lllm.audit.verdict import AnchorCheck, Verdict
from lllm.events.concurrency.late_imports import importing
from lllm.events.errors import AuditError, MissingExtra
from lllm.invokers.http.opener import shown_url

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from rfc3161_client import TimeStampResponse

SUFFIX = ".tsr"

_GRANTED = 0  # https://www.rfc-editor.org/rfc/rfc3161#section-2.4.2
_HASHES = {  # https://www.rfc-editor.org/rfc/rfc5754#section-2
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}
_REASON = re.compile(r'Verify error: ?([^"]*)|reason: "([^"]*)"')


def token_path(seal: Path) -> Path:
    """Return the path of the timestamp that belongs to a seal.

    Args:
        seal: The path of the seal.

    Returns:
        The path of the file beside the seal.
    """
    return seal.with_name(seal.name + SUFFIX)


def read_authorities(files: Sequence[str | os.PathLike[str]]) -> tuple[Certificate, ...]:
    """Read the certificates of trusted time-stamping authorities.

    Args:
        files: The paths of PEM files, each with at least one certificate.

    Returns:
        The certificates, without duplicates.

    Raises:
        AuditError: A file can't be read, or has no certificate.
        MissingExtra: The extra `audit` is not installed.
    """
    if not files:
        return ()
    require_timestamps()
    with importing():
        from cryptography.x509 import load_pem_x509_certificates

    found: dict[Certificate, None] = {}
    for file in files:
        try:
            found.update(dict.fromkeys(load_pem_x509_certificates(Path(file).read_bytes())))
        except ValueError as error:
            raise AuditError(f"{file}: this is not a certificate in PEM: {error}") from error
        except OSError as error:
            raise AuditError(f"The certificate {file} can't be read: {error.strerror}.") from error
    return tuple(found)


def require_timestamps() -> None:
    """Raise MissingExtra if the library for timestamps is not installed."""
    if not _is_installed():
        raise MissingExtra(
            "Timestamps need the library 'rfc3161-client', which is not installed. It is in an "
            'extra: pip install "lllm[audit]"'
        )


def request_timestamp(content: bytes, url: str, authorities: Sequence[Certificate] = ()) -> bytes:
    """Ask an authority for a timestamp.

    Args:
        content: The content of the seal's file.
        url: The address of the authority.
        authorities: The certificates of trusted authorities, with which the answer is checked at
            once; empty to check it later.

    Returns:
        The timestamp: an RFC 3161 response in DER.

    Raises:
        AuditError: The authority can't be reached, refuses, or answers with anything else than a
            timestamp for this content and this request by a trusted authority.
        MissingExtra: The extra `audit` is not installed.
    """
    require_timestamps()
    with importing():
        from rfc3161_client import HashAlgorithm, TimestampRequestBuilder

    request = TimestampRequestBuilder().data(content).hash_algorithm(HashAlgorithm.SHA256).build()
    answer = post(url, request.as_bytes(), "application/timestamp-query")
    who = f"The time-stamping authority {shown_url(url)}"
    if answer.status != 200:
        raise AuditError(f"{who} answers with the HTTP status {answer.status}.")
    try:
        token = _parsed(answer.body)
        if token.status != _GRANTED:
            why = "; ".join(token.status_string) or f"status {token.status}"
            raise AuditError(f"{who} gives no timestamp: {why}")
        nonce = token.tst_info.nonce
    except ValueError as error:
        raise AuditError(f"{who} did not answer with an RFC 3161 timestamp: {error}.") from error
    if nonce != request.nonce:
        raise AuditError(f"{who} answered another request: the nonce differs.")
    found = check_timestamp(answer.body, content, authorities)
    if found.verdict == "wrong":
        raise AuditError(f"{who} sent a timestamp that can't be used: {found.says}.")
    return answer.body


def check_timestamp(
    token: bytes, content: bytes, authorities: Sequence[Certificate]
) -> AnchorCheck:
    """Check a timestamp of a seal without any request.

    Args:
        token: The content of the timestamp's file.
        content: The content of the seal's file.
        authorities: The certificates of trusted authorities; empty if there are none.

    Returns:
        The verdict and the time of the timestamp.

    Raises:
        MissingExtra: Certificates are given, and the extra `audit` is not installed.
    """
    if authorities:
        require_timestamps()
    elif not _is_installed():
        return _check("unknown", "the library to read it, of the extra `audit`, is not installed")
    try:
        parsed = _parsed(token)
        latest = _latest(parsed)
        imprint = parsed.tst_info.message_imprint
        name = _HASHES.get(imprint.hash_algorithm.dotted_string)
        fits = name is not None and hashlib.new(name, content).digest() == imprint.message
    except ValueError as error:
        return _check("wrong", f"it is not an RFC 3161 timestamp: {error}")
    if not fits:
        return _check("wrong", "it is the timestamp of another file, or the seal was changed")
    at = f"{latest:%Y-%m-%d %H:%M:%S} UTC"
    if not authorities:
        return _check(
            "unknown",
            f"it says that the seal existed at {at}; no certificate of an authority that you trust "
            "was given to check that (--timestamp-ca)",
        )
    problem = _problem(parsed, content, authorities)
    if problem:
        return _check("wrong", f"no given certificate vouches for it: {problem}")
    return _check(
        "good",
        f"the seal, and so its log, existed at {at} at the latest; it doesn't say how much earlier",
        latest,
    )


def read_timestamp(
    seal: Path, content: bytes, authorities: Sequence[Certificate]
) -> AnchorCheck | None:
    """Read and check the timestamp that is kept beside a seal.

    Args:
        seal: The path of the seal.
        content: The content of the seal.
        authorities: The certificates of trusted authorities; empty if there are none.

    Returns:
        The verdict and the time; None if there is no timestamp and no certificate was given.

    Raises:
        OSError: The file can't be read.
        MissingExtra: Certificates are given, and the extra `audit` is not installed.
    """
    path = token_path(seal)
    try:
        token = path.read_bytes()
    except FileNotFoundError:
        return _check("unknown", f"there is no timestamp {path}") if authorities else None
    return check_timestamp(token, content, authorities)


def _check(verdict: Verdict, says: str, time: dt.datetime | None = None) -> AnchorCheck:
    return AnchorCheck("timestamp", "", verdict, says, time)


def _latest(token: TimeStampResponse) -> dt.datetime:
    """Return the latest time that the timestamp allows, given the authority's accuracy."""
    info = token.tst_info
    accuracy = info.accuracy
    if accuracy is None:
        return info.gen_time
    return info.gen_time + dt.timedelta(
        seconds=accuracy.seconds or 0,
        milliseconds=accuracy.millis or 0,
        microseconds=accuracy.micros or 0,
    )


def _problem(
    token: TimeStampResponse, content: bytes, authorities: Sequence[Certificate]
) -> str | None:
    with importing():
        from rfc3161_client import VerificationError, VerifierBuilder

    try:
        VerifierBuilder(roots=list(authorities)).build().verify_message(token, content)
    except (VerificationError, ValueError) as error:
        reasons = [one or other for one, other in _REASON.findall(str(error))]
        return reasons[-1] if reasons else str(error)
    return None


def _parsed(token: bytes) -> TimeStampResponse:
    with importing():
        from rfc3161_client import decode_timestamp_response

    return decode_timestamp_response(token)


def _is_installed() -> bool:
    return importlib.util.find_spec("rfc3161_client") is not None
