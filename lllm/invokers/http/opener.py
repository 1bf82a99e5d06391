"""Makes what sends a request without an SDK, and shortens its URL for messages."""

from __future__ import annotations

import urllib.request
from typing import IO, TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from http.client import HTTPMessage


def opener(*handlers: urllib.request.BaseHandler) -> urllib.request.OpenerDirector:
    """Make an opener that follows no redirection, because that would turn a POST into a GET.

    Args:
        handlers: Further handlers, for example one with the certificates to trust.

    Returns:
        The opener. A redirection is an `urllib.error.HTTPError` like other refusals.
    """
    return urllib.request.build_opener(_NoRedirect(), *handlers)


def shown_url(url: str) -> str:
    """Shorten a URL for a message: a password or a query in it may be secret.

    Args:
        url: The whole URL.

    Returns:
        Its scheme, host and path.
    """
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Returns a redirection as the answer instead of following it."""

    def redirect_request(
        self,
        req: urllib.request.Request,  # noqa: ARG002
        fp: IO[bytes],  # noqa: ARG002
        code: int,  # noqa: ARG002
        msg: str,  # noqa: ARG002
        headers: HTTPMessage,  # noqa: ARG002
        newurl: str,  # noqa: ARG002
    ) -> None:
        return None
