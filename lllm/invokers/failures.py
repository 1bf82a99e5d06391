"""What a provider's HTTP error means: whether to try again, when, and what may be told of it.

Statuses are RFC 9110's; which of them are worth another attempt is OpenAI's own list
(https://platform.openai.com/docs/guides/error-codes): 408, 409, 429 and 5xx, but not a 429 that
says the quota is spent. Providers echo credentials in their messages, so every text passes a
`Secrets` before it becomes part of an error.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from lllm.events.errors import InvokeError
from lllm.invokers.chat_completions import error_of

if TYPE_CHECKING:
    from collections.abc import Mapping

MARK = "[api key]"
_SHORTEST_SECRET = 8  # "ollama" or "EMPTY" given as a key is no secret, and may be a word of a text
# "Bearer" and "Basic" are words too: what follows must be long and have a digit in it.
_LOOKS_SECRET = re.compile(
    r"(?i:\b(?:bearer|basic)\s+)(?:\[api key\]|(?=[^\s\"',;]*\d)[^\s\"',;]{8,})"
    r"|\bsk-[\w*.…-]{6,}"
)
_SPENT = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
_LONGEST_QUOTE = 500  # characters of an error page that is not JSON
_SECOND = 1_000_000_000


class Secrets:
    """The texts that must not leave, and what cuts them out."""

    def __init__(self, *texts: str | None) -> None:
        known = {text for text in texts if text and len(text) >= _SHORTEST_SECRET}
        known |= {json.dumps(text)[1:-1] for text in known}
        # The longest first, so that no rest of one stays where another is part of it.
        self._texts = sorted(known, key=len, reverse=True)

    def __repr__(self) -> str:
        return "Secrets()"

    def cut(self, text: str) -> str:
        """A model's text, without these very secrets; nothing else of it is touched."""
        for secret in self._texts:
            text = text.replace(secret, MARK)
        return text

    def cut_error(self, text: str) -> str:
        """An error's text, also without what only looks like a credential: OpenAI quotes keys
        with asterisks in the middle."""
        return _LOOKS_SECRET.sub(MARK, self.cut(text))


def from_response(
    status: int, headers: Mapping[str, str], text: str, *, host: str, secrets: Secrets
) -> InvokeError:
    """The error that an HTTP answer stands for. text: its body. host: whom the message names."""
    try:
        body: object = json.loads(text)
    except (ValueError, RecursionError):
        body = None
    said, code = error_of(body)
    if said is None and body is None:
        said = text.strip()[:_LONGEST_QUOTE]
    code = None if code is None else secrets.cut_error(code)
    message = f"{host} answered {status}" + (f" ({code})" if code else "")
    return InvokeError(
        f"{message}: {secrets.cut_error(said)}" if said else f"{message}.",
        retryable=is_retryable(status, code),
        status=status,
        code=code,
        retry_after=retry_after(headers),
        request_id=request_id(headers, secrets),
    )


def is_retryable(status: int, code: str | None) -> bool:
    """Whether the same request may succeed later."""
    return (status in (408, 409, 429) or status >= 500) and code not in _SPENT


def request_id(headers: Mapping[str, str], secrets: Secrets) -> str | None:
    """The provider's id of a request, from the header that it comes in."""
    found = headers.get("x-request-id")
    return None if found is None else secrets.cut_error(found)


def retry_after(headers: Mapping[str, str], *, now: dt.datetime | None = None) -> int | None:
    """The nanoseconds that a provider asks to wait, None where it does not say.

    headers: without regard to case. Retry-After is seconds or a date (RFC 9110, section 10.2.3),
    which is taken from `now`; retry-after-ms is OpenAI's finer one and comes first.
    """
    for name, unit in (("retry-after-ms", _SECOND // 1000), ("retry-after", _SECOND)):
        try:
            wait = float(headers.get(name, ""))
        except ValueError:
            continue
        if math.isfinite(wait) and wait >= 0:
            return _in_bounds(wait * unit)
    try:
        date = parsedate_to_datetime(headers.get("retry-after", ""))
    except ValueError:
        return None
    if date.tzinfo is None:  # "-0000": UTC, by RFC 5322
        date = date.replace(tzinfo=dt.UTC)
    wait = (date - (now or dt.datetime.now(dt.UTC))).total_seconds()
    return _in_bounds(max(0.0, wait * _SECOND))


def _in_bounds(wait: float) -> int | None:
    """Whole nanoseconds; None for a wait of centuries, which nobody means and no event holds."""
    return round(wait) if wait < 2**63 else None
