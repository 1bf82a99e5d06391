"""Decides whether a failed attempt may have been billed."""

from __future__ import annotations

from lllm.events.errors import InvokeError, LllmError

# Statuses of requests that were refused before a model ran (RFC 9110, section 15.5).
_REFUSED = frozenset(
    {400, 401, 402, 403, 404, 405, 406, 410, 411, 413, 414, 415, 417, 422, 426, 429, 431, 451}
)
# Errors of httpx, httpx2 and aiohttp raised before a request is sent: no connection, no address.
_UNSENT = frozenset({
    "ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError", "UnsupportedProtocol",
    "InvalidURL", "LocalProtocolError", "ClientConnectorError", "ConnectionRefusedError",
})  # fmt: skip


def is_unserved(error: BaseException) -> bool:
    """True if the provider certainly did no work for a failed attempt, so nothing was billed.

    A timeout after the request was sent, a 5xx or a broken connection may have been billed.

    Args:
        error: The error that ended the attempt.

    Returns:
        True if it is certain that nothing was billed.
    """
    if isinstance(error, InvokeError):
        if error.partial is not None or error.usage is not None or error.unfinished:
            return False
        return error.unserved or error.status in _REFUSED
    if isinstance(error, LllmError):
        return True  # no API key, or the log could not be written: the request was not sent
    return http_status(error) in _REFUSED or was_unsent(error)


def http_status(error: BaseException) -> int | None:
    """Find the HTTP status in an error of httpx, requests or an SDK.

    Args:
        error: The error that ended a request.

    Returns:
        The HTTP status; None if there was no response.
    """
    try:
        found = getattr(getattr(error, "response", None), "status_code", None)
    except Exception:  # a user's error class may have a property that raises
        return None
    return found if isinstance(found, int) else None


def was_unsent(error: BaseException) -> bool:
    """True if an error happened before the request was sent.

    Args:
        error: The error of an HTTP library, or an SDK's error that was caused by one.

    Returns:
        True if the request never left this machine.
    """
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if any(kind.__name__ in _UNSENT for kind in type(cause).__mro__):
            return True
        cause = cause.__cause__
    return False
