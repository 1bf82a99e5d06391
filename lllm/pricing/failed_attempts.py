"""Tells if a failed attempt may have been billed."""

from __future__ import annotations

from lllm.events.errors import InvokeError, LllmError

# The request was refused before a model was asked (RFC 9110, section 15.5).
_REFUSED = frozenset(
    {400, 401, 402, 403, 404, 405, 406, 410, 411, 413, 414, 415, 417, 422, 426, 429, 431, 451}
)
# What httpx, httpx2 and aiohttp raise before a request has left: no connection, no address.
_UNSENT = frozenset({
    "ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError", "UnsupportedProtocol",
    "InvalidURL", "LocalProtocolError", "ClientConnectorError", "ConnectionRefusedError",
})  # fmt: skip


def is_unserved(error: BaseException) -> bool:
    """True if the provider certainly did nothing, so that nothing was billed.

    A timeout after the request was sent, a 5xx, a connection that broke may have cost something.

    Args:
        error: What the attempt failed with.

    Returns:
        True if it is certain.
    """
    if isinstance(error, InvokeError):
        if error.partial is not None or error.usage is not None or error.unfinished:
            return False
        return error.unserved or error.status in _REFUSED
    if isinstance(error, LllmError):
        return True  # no key, no log: it was not sent
    return http_status(error) in _REFUSED or was_unsent(error)


def http_status(error: BaseException) -> int | None:
    """Find the HTTP status in an error of httpx, requests or an SDK.

    Args:
        error: Any error.

    Returns:
        The status, None where no answer came.
    """
    try:
        found = getattr(getattr(error, "response", None), "status_code", None)
    except Exception:  # a property of the user's
        return None
    return found if isinstance(found, int) else None


def was_unsent(error: BaseException) -> bool:
    """True if an error happened before the request was sent.

    Args:
        error: Of an HTTP library, or of an SDK that raised it because of one.

    Returns:
        True if nothing was sent.
    """
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if any(kind.__name__ in _UNSENT for kind in type(cause).__mro__):
            return True
        cause = cause.__cause__
    return False
