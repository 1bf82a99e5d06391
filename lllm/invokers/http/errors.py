"""What a provider's error means: whether to try again, when, and what may be told of it.

Statuses are RFC 9110's; which of them are worth another attempt is OpenAI's own list
(https://platform.openai.com/docs/guides/error-codes): 408, 409, 429 and 5xx, but not a 429 that
says the quota is spent. Anthropic's 529, overloaded, is among them. An error in the middle of a
stream comes without a status, and is judged by its type. Providers echo credentials in their
messages, so every text passes a `Secrets` before it becomes part of an error.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from email.utils import parsedate_to_datetime
from operator import is_not
from typing import TYPE_CHECKING

from lllm.events.errors import InvokeError
from lllm.invokers.http.rate_limits import reset_after

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MARK = "[api key]"
_SHORTEST_SECRET = 8  # "ollama" or "EMPTY" given as a key is no secret, and may be a word of a text
# "Bearer" and "Basic" are words too: what follows must be long and have a digit in it.
_LOOKS_SECRET = re.compile(
    r"(?i:\b(?:bearer|basic)\s+)(?:\[api key\]|(?=[^\s\"',;]*\d)[^\s\"',;]{8,})"
    r"|\bsk-[\w*.…-]{6,}"
)
# The statuses of errors that come without one:
# https://platform.claude.com/docs/en/api/errors and OpenAI's list, see above.
_STATUS_OF = {
    "invalid_request_error": 400,
    "invalid_prompt": 400,
    "context_length_exceeded": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
    # https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ResponseStream.html
    "validationException": 400,
    "modelTimeoutException": 408,
    "modelStreamErrorException": 424,
    "throttlingException": 429,
    "internalServerException": 500,
    "serviceUnavailableException": 503,
}
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

    def cut_values(self, value: object) -> object:
        """The same of all texts and names in a JSON value; itself where it has none of them, so
        that a long answer is not copied."""
        if isinstance(value, str):
            return self.cut(value)
        if isinstance(value, list):
            items = [self.cut_values(item) for item in value]
            return items if any(map(is_not, items, value)) else value
        if isinstance(value, dict):
            members = {self.cut(name): self.cut_values(item) for name, item in value.items()}
            return members if any(map(is_not, members.values(), value.values())) or any(
                map(is_not, members, value)) else value  # fmt: skip
        return value

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
    # Amazon names the kind in a header, before what else may stand there:
    # https://smithy.io/2.0/aws/protocols/aws-restjson1-protocol.html#operation-error-serialization
    code = code or headers.get("x-amzn-errortype", "").partition(":")[0] or None
    if said is None and body is None:
        said = text.strip()[:_LONGEST_QUOTE]
    code = None if code is None else secrets.cut_error(code)
    message = f"{host} answered {status}" + (f" ({code})" if code else "")
    wait = retry_after(headers)
    if wait is None and status == 429:
        reset = reset_after(headers, now=dt.datetime.now(dt.UTC))
        wait = None if reset is None else _in_bounds(reset * _SECOND)
    return InvokeError(
        f"{message}: {secrets.cut_error(said)}" if said else f"{message}.",
        retryable=is_retryable(status, code),
        status=status,
        code=code,
        retry_after=wait,
        request_id=request_id(headers, secrets),
    )


def from_event(body: object) -> InvokeError:
    """The error that an event in the middle of a stream tells of.

    body: its JSON, with the error in it ({"error": {...}}) or the error itself. The text is the
    provider's own, uncleaned: see `cleaned`.
    """
    said, code = error_of(body)
    status = status_of(body)
    message = "The provider ended its answer with an error" + (f" ({code})" if code else "")
    return InvokeError(
        f"{message}: {said}" if said else f"{message}.",
        retryable=is_retryable(status, code),
        status=status,
        code=code,
    )


def cleaned(error: InvokeError, secrets: Secrets, *, request_id: str | None) -> InvokeError:
    """The same error made anew, without what must not be told."""
    return InvokeError(
        secrets.cut_error(str(error)),
        retryable=error.retryable,
        status=error.status,
        code=None if error.code is None else secrets.cut_error(error.code),
        retry_after=error.retry_after,
        request_id=error.request_id or request_id,
        partial=error.partial,
        usage=error.usage,
        usage_raw=error.usage_raw,
        billed=error.billed,
        service_tier=error.service_tier,
        model=error.model,
        unserved=error.unserved,
        unfinished=error.unfinished,
    )


def error_of(body: object) -> tuple[str | None, str | None]:
    """The message and the code in the provider's JSON of an error, each None where it has none.

    Google puts an error that comes in place of a stream into a list; Amazon has a "Message", too.
    """
    if isinstance(body, list) and len(body) == 1:
        body = body[0]
    whole = body if isinstance(body, dict) else {}
    error = whole.get("error") or whole
    if isinstance(error, str):
        return error, None
    if not isinstance(error, dict):
        return None, None
    found: Sequence[object] = (error.get("code"), error.get("type"))
    code = next((str(value) for value in found if isinstance(value, (str, int))), None)
    message = error.get("message", error.get("Message"))
    return message if isinstance(message, str) else None, code


def status_of(body: object) -> int:
    """The status that an error stands for which came in an answer of status 200.

    OpenRouter answers 200 once it has begun, and puts the status into the error's code
    (https://openrouter.ai/docs/api-reference/errors); others name a type. 500 where none is known.
    """
    places = _places(body)
    for place in places:
        for name in _STATUS_NAMES:
            status = _status(place.get(name))
            if status is not None:
                return status
    found = [place.get(name) for place in places for name in ("code", "type")]
    return next((_STATUS_OF[one] for one in found if one in _STATUS_OF), 500)


def tells_error(body: object) -> bool:
    """Whether the JSON of an answer of status 200 is that of an error: it has one, is called one,
    or has a status of its own that stands for one."""
    whole = body if isinstance(body, dict) else {}
    if whole.get("error") or "error" in (whole.get("object"), whole.get("type")):
        return True
    return any(_status(whole.get(name)) is not None for name in _STATUS_NAMES)


# Where servers put the status: OpenRouter's `code`, Google's `code` beside a `status` in words.
_STATUS_NAMES = ("code", "status", "status_code", "http_status")


def _places(body: object) -> list[dict[str, object]]:
    """The objects that may say what went wrong, the inner one first."""
    whole = body if isinstance(body, dict) else {}
    error = whole.get("error")
    return [error, whole] if isinstance(error, dict) else [whole]


def _status(value: object) -> int | None:
    """The HTTP status of an error that a value is, also as a text."""
    if isinstance(value, str) and len(value) == 3 and value.isdecimal():
        value = int(value)
    return value if type(value) is int and 400 <= value < 600 else None


def is_retryable(status: int, code: str | None) -> bool:
    """Whether the same request may succeed later."""
    return (status in (408, 409, 429) or status >= 500) and code not in _SPENT


def request_id(headers: Mapping[str, str], secrets: Secrets) -> str | None:
    """The provider's id of a request, from the header that it comes in: Anthropic's, OpenAI's or
    Amazon's."""
    named = (headers.get(name) for name in ("request-id", "x-request-id", "x-amzn-requestid"))
    found = next(filter(None, named), None)
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
