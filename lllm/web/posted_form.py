"""Reads what a browser or program posts, and checks that a form is one of this page."""

from __future__ import annotations

import hmac
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import Request

from lllm.web.form_token import FormToken

_MOST = 100_000  # bytes of what is sent


async def posted_form(request: Request, token: FormToken, about: str) -> dict[str, str]:
    """Read the fields of a form.

    Args:
        request: The HTTP request; its body is the form.
        token: Makes the tokens of the forms.
        about: The session or page that the form belongs to; see `FormToken.of`.

    Returns:
        The texts of the fields by their names.

    Raises:
        HTTPException: The body is something else, is too long, or is not a form of this page.
        ValueError: The form is not UTF-8.
    """
    try:
        text = (await posted_body(request, "application/x-www-form-urlencoded")).decode()
    except UnicodeDecodeError as error:
        raise ValueError("The form is not UTF-8.") from error
    form = dict(parse_qsl(text, keep_blank_values=True))
    if not hmac.compare_digest(form.get("token", "").encode(), token.of(about).encode()):
        raise HTTPException(403, "This form is of an earlier run of `lllm web`; reload the page.")
    return form


async def posted_body(request: Request, kind: str) -> bytes:
    """Read the body of a request.

    Args:
        request: The HTTP request.
        kind: The media type that its body must have.

    Raises:
        HTTPException: The body has another type, or is too long.
    """
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given != kind:
        raise HTTPException(415, f"This address takes {kind}.")
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _MOST:
            raise HTTPException(413, f"This address takes {_MOST:,} bytes at most.")
    return body
