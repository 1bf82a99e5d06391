"""Turns a provider's error into an InvokeError that says if and when to retry, without secrets.

Statuses are defined in RFC 9110. By OpenAI's list, 408, 409, 429 and 5xx are retried, except a 429
for a spent quota (https://platform.openai.com/docs/guides/error-codes); that includes Anthropic's
529, overloaded. An error in the middle of a stream has no status, and is judged by its type.
Providers repeat credentials in their messages, so every text passes a `Secrets` before it is part
of an error.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Protocol

from lllm.events.errors import InvokeError
from lllm.invokers.http.retry_after import wait_asked_for
from lllm.invokers.http.secrets import Secrets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lllm.events.model import Usage

# The statuses of errors that are sent without one:
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


def from_response(
    status: int, headers: Mapping[str, str], text: str, *, host: str, secrets: Secrets
) -> InvokeError:
    """Make the error for an HTTP answer with an error status.

    Args:
        status: The HTTP status.
        headers: The headers of the answer, found without regard to case.
        text: The body of the answer.
        host: The host, which the message names.
        secrets: The secrets to remove from the texts.

    Returns:
        The error, without secrets.
    """
    try:
        body: object = json.loads(text)
    except (ValueError, RecursionError):
        body = None
    said, code = error_of(body)
    # Amazon sends the kind of the error in a header, followed by other text:
    # https://smithy.io/2.0/aws/protocols/aws-restjson1-protocol.html#operation-error-serialization
    code = code or headers.get("x-amzn-errortype", "").partition(":")[0] or None
    if said is None and body is None:
        said = text.strip()[:_LONGEST_QUOTE]
    code = None if code is None else secrets.cut_error(code)
    message = f"{host} answered {status}" + (f" ({code})" if code else "")
    return InvokeError(
        f"{message}: {secrets.cut_error(said)}" if said else f"{message}.",
        retryable=is_retryable(status, code),
        status=status,
        code=code,
        retry_after=wait_asked_for(status, headers),
        request_id=request_id(headers, secrets),
    )


def from_event(body: object) -> InvokeError:
    """Make the error for an error event in the middle of a stream.

    Args:
        body: The JSON of the event: the error itself, or an object with it ({"error": {...}}).

    Returns:
        The error. Its text is the provider's own and may contain secrets; see `cleaned`.
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
    """Copy an error without secrets.

    Args:
        error: The error to copy.
        secrets: The secrets to remove from its texts.
        request_id: The provider's id of the request, used if the error has none.

    Returns:
        A new error, without a cause and a traceback.
    """
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


class _Used(Protocol):
    """An object that knows the usage of an answer or a failure."""

    @property
    def usage(self) -> Usage | None: ...
    @property
    def usage_raw(self) -> object: ...
    @property
    def billed(self) -> int | None: ...
    @property
    def service_tier(self) -> str | None: ...
    @property
    def model(self) -> str | None: ...


def with_use(error: InvokeError, used: _Used) -> InvokeError:
    """Add the usage of a failed request to its error, because it is billed.

    Args:
        error: The error, which is changed.
        used: An answer, or another error, that has the usage.

    Returns:
        The same error.
    """
    error.usage, error.usage_raw, error.billed = used.usage, used.usage_raw, used.billed
    error.service_tier, error.model = used.service_tier, used.model
    return error


def error_of(body: object) -> tuple[str | None, str | None]:
    """Read the message and the code from the JSON of an error.

    Google puts an error that replaces a stream into a list; Amazon also uses "Message".

    Args:
        body: The provider's JSON.

    Returns:
        The message and the code; each is None if there is none.
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
    """Find the HTTP status that fits an error which came with status 200.

    Once its answer has begun, OpenRouter sends 200 and puts the status into the error's code
    (https://openrouter.ai/docs/api-reference/errors); others send only a type.

    Args:
        body: The provider's JSON.

    Returns:
        The status; 500 if it is unknown.
    """
    places = _error_objects(body)
    for place in places:
        for name in _STATUS_NAMES:
            status = _status(place.get(name))
            if status is not None:
                return status
    found = [place.get(name) for place in places for name in ("code", "type")]
    return next((_STATUS_OF[one] for one in found if one in _STATUS_OF), 500)


def tells_error(body: object) -> bool:
    """True if an answer of status 200 contains an error.

    Args:
        body: The provider's JSON.

    Returns:
        True if it has an error object, is named an error, or has an error status in a field.
    """
    whole = body if isinstance(body, dict) else {}
    if whole.get("error") or "error" in (whole.get("object"), whole.get("type")):
        return True
    return any(_status(whole.get(name)) is not None for name in _STATUS_NAMES)


# Fields with the status: OpenRouter's `code`, Google's `code` beside a `status` in words.
_STATUS_NAMES = ("code", "status", "status_code", "http_status")


def _error_objects(body: object) -> list[dict[str, object]]:
    """List the objects that may describe the error, the inner one first."""
    whole = body if isinstance(body, dict) else {}
    error = whole.get("error")
    return [error, whole] if isinstance(error, dict) else [whole]


def _status(value: object) -> int | None:
    """Read the HTTP status of an error, also from text; None for anything else."""
    if isinstance(value, str) and len(value) == 3 and value.isdecimal():
        value = int(value)
    return value if type(value) is int and 400 <= value < 600 else None


def is_retryable(status: int, code: str | None) -> bool:
    """True if the same request may succeed later.

    Args:
        status: The HTTP status.
        code: The provider's error code; None if it sent none.

    Returns:
        True if a retry makes sense.
    """
    return (status in (408, 409, 429) or status >= 500) and code not in _SPENT


def request_id(headers: Mapping[str, str], secrets: Secrets) -> str | None:
    """Read the provider's id of a request from the headers of Anthropic, OpenAI or Amazon.

    Args:
        headers: The headers of the answer, found without regard to case.
        secrets: The secrets to remove from the id.

    Returns:
        The id; None if there is none.
    """
    named = (headers.get(name) for name in ("request-id", "x-request-id", "x-amzn-requestid"))
    found = next(filter(None, named), None)
    return None if found is None else secrets.cut_error(found)
