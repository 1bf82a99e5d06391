"""Turns LiteLLM's exceptions into InvokeErrors.

They are subclasses of the exceptions of OpenAI's SDK for every provider, with statuses that LiteLLM
may have invented: it reports a broken connection as a 500, and Anthropic's overload (529), too. The
headers tell whether a provider answered at all. The provider's own status and body are in the
exception that caused LiteLLM's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

from lllm.events.errors import InvokeError
from lllm.invokers.http.errors import error_of, from_response, is_retryable
from lllm.invokers.http.secrets import Secrets
from lllm.pricing.failed_attempts import was_unsent

_SAID_BY_LITELLM = re.compile(
    r"^(?:(?:litellm\.)?\w*(?:Error|Exception|Timeout): )*(?:\w+(?:Exception|Error) - )?"
)
_ADDED = re.compile(r"(?:\. Handle with `litellm\.| Original exception: |\nTraceback ).*", re.S)
_LONGEST_QUOTE = 500  # characters of a text that is not JSON


def from_exception(error: Exception, *, host: str, secrets: Secrets) -> InvokeError:
    """Make the error for one of LiteLLM's exceptions.

    Args:
        error: The exception that LiteLLM raised.
        host: The host, which the message names.
        secrets: The secrets to remove from the texts.

    Returns:
        The error, without secrets.
    """
    chain = list(_chain(error))
    statuses = _statuses(chain)
    if not statuses:  # not LiteLLM's own: a missing package, a bug, or a request that it can't make
        if isinstance(error, ModuleNotFoundError):
            return InvokeError(
                f"LiteLLM needs the package {error.name!r} for this request, but does not install "
                'it. Install it (pip install "litellm[proxy]" installs all that its '
                "cache and its gateway need), or change the request.",
                retryable=False,
            )
        told = secrets.cut_error(_shortened(f"{type(error).__name__}: {error}"))
        return InvokeError(f"LiteLLM could not make the request ({told})", retryable=False)
    said = _provider_text(chain)
    headers = _headers(chain)
    if headers is not None and statuses[-1] >= 400:
        return from_response(statuses[-1], headers, said, host=host, secrets=secrets)
    text, code = error_of(_json(said))
    told = secrets.cut_error(_shortened(text or said or type(error).__name__))
    return InvokeError(
        f"The call of {host} through LiteLLM failed: {told}",
        retryable=is_retryable(statuses[0], code),
        code=None if code is None else secrets.cut_error(code),
        unserved=any(map(was_unsent, chain)),
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and its causes, the provider's own last."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        inner = getattr(error, "original_exception", None)
        error = inner if isinstance(inner, BaseException) else error.__context__


def _statuses(chain: list[BaseException]) -> list[int]:
    """List the statuses, LiteLLM's first, the provider's own last."""
    found = [getattr(error, "status_code", None) for error in chain]
    return [status for status in found if type(status) is int]


def _headers(chain: list[BaseException]) -> Mapping[str, str] | None:
    for error in chain:
        headers = getattr(error, "litellm_response_headers", None)
        if isinstance(headers, Mapping) and headers:
            return {str(name).lower(): str(value) for name, value in headers.items()}
    return None


def _provider_text(chain: list[BaseException]) -> str:
    """Find the provider's error, as JSON if possible, else as text."""
    for error in chain:
        body = getattr(error, "body", None)
        if isinstance(body, dict) and body:
            return json.dumps(body if "error" in body else {"error": body}, default=str)
    message = getattr(chain[0], "message", None)
    text = _ADDED.sub("", message if isinstance(message, str) else str(chain[0]))
    text = _SAID_BY_LITELLM.sub("", text).strip()
    begin, end = text.find("{"), text.rfind("}") + 1
    inside = text[begin:end] if 0 <= begin < end else ""
    return inside if isinstance(_json(inside), dict) else _shortened(text)


def _json(text: str) -> object:
    try:
        found: object = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_QUOTE else text[: _LONGEST_QUOTE - 1] + "…"
