"""Patches the client of an SDK, so that its calls are recorded.

The SDKs of OpenAI and Anthropic are built alike (`google_genai` has what Google's needs): every
call goes through the client's `request`, and each attempt through `send` of its httpx client. Both
methods are replaced on this one client; their results are the SDK's own. Clients made by `copy` and
`with_options` are captured, too.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable

from lllm.events.errors import ConfigError
from lllm.instrumentation.sdk import google_genai
from lllm.instrumentation.sdk.hooks import AsyncListener, Listener, SyncListener
from lllm.instrumentation.session_resolver import ClientFamily, Recording
from lllm.instrumentation.wrapped_clients import clients_inside, holder_of
from lllm.invokers.sdk.versions import require_supported

_MARK = "_lllm_listener"
_LISTENED = "_lllm_listened"  # marks the patched copy of an httpx client after its release
_SDKS = ("openai", "anthropic")
_METHODS = ("request", "copy", "with_options")


def clients_of(given: object) -> list[object]:
    """Find the SDK clients that an object is or contains, such as a chat model of LangChain.

    Args:
        given: The object that a user wants to capture.

    Returns:
        The clients; at least one.

    Raises:
        ConfigError: The object is not a client and has none.
    """
    own = _client_of(given)
    found = clients_inside(given, _client_of) if own is None else [own]
    if not found:
        kind = type(given)
        raise ConfigError(
            "capture takes a client of openai, anthropic or google-genai (OpenAI(), "
            "AsyncAnthropic(), genai.Client(), ...), or an object that has one; "
            f"{kind.__module__}.{kind.__qualname__} is neither. {_advice(given)}"
        )
    return found


def _advice(given: object) -> str:
    place = holder_of(given, _client_of)
    if place is not None:
        return f"Its `{place}` is such a client: capture that."
    return (
        "Capture the client that it uses, which is often called `.root_client` or `.client`, and "
        "may have to be made first. A library that calls models through litellm has no such "
        "client. The guide to frameworks describes each of them."
    )


def listen(client: object, recording: Recording) -> None:
    """Record the calls of a client, and of the copies that are made of it.

    If the client is captured already, the new recording applies to the calls that begin from now
    on, also to those of its copies.

    Args:
        client: A client of an SDK.
        recording: Where its calls are recorded, and with which options.

    Raises:
        MissingExtra: The installed version of the client's SDK is not supported.
    """
    for sdk in _sdks(client):
        require_supported(sdk)
    listener = _listener_of(client)
    if listener is None:
        _attach(client, ClientFamily(recording), is_copy=False)
    elif listener.is_copy:
        listener.family, listener.is_copy = ClientFamily(recording), False
    else:
        listener.family.recording = recording


def recording_of(client: object) -> Recording | None:
    """Get the recording of a client; None if it is not captured."""
    listener = _listener_of(client)
    return None if listener is None else listener.family.recording


def release(client: object) -> None:
    """Stop recording a client, and the copies that were made of it.

    Its original methods are restored. If another library has wrapped them since, the wrapper stays,
    and lllm's method below it does nothing. Calls in progress are recorded to their end.

    Args:
        client: A client of an SDK.
    """
    listener = _listener_of(client)
    if listener is None:
        return
    if listener.is_copy:
        listener.family, listener.is_copy = ClientFamily(None), False
    else:
        listener.family.recording = None
    if listener.put_back():
        vars(client).pop(_MARK, None)
    if not google_genai.is_client(client):
        _release_http(client)


def _release_http(client: object) -> None:
    http = client._client  # type: ignore[attr-defined] # see _is_client
    original = vars(http).get(_MARK)
    if original is not None and not http.is_closed:
        # Both share connections, which are closed when the first of them is collected: keep both.
        vars(original)[_LISTENED] = http
        client._client = original  # type: ignore[attr-defined] # see _is_client


def _attach(client: object, family: ClientFamily, *, is_copy: bool) -> None:
    if google_genai.is_client(client):
        setattr(client, _MARK, google_genai.attach(client, family))
        return
    request = client.request  # type: ignore[attr-defined] # see _is_client
    kind = AsyncListener if inspect.iscoroutinefunction(request) else SyncListener
    listener: Listener = kind(client, family, _attach_http, is_copy=is_copy)
    setattr(client, _MARK, listener)

    def captured(make: Callable[..., object]) -> Callable[..., object]:
        def made(*args: object, **options: object) -> object:
            other = make(*args, **options)
            if listener.family.recording is not None:
                _attach(other, listener.family, is_copy=True)
            return other

        return made

    listener.replace("request", listener.of_request)
    for name in ("copy", "with_options"):
        listener.replace(name, captured)
    _attach_http(listener)


def _attach_http(listener: Listener) -> None:
    """Record the attempts that a client sends through its httpx client.

    Other clients may share the httpx client, so this one gets a copy with the same connections.
    """
    client = listener.client
    http = client._client  # type: ignore[attr-defined] # see _is_client
    if hasattr(http, _MARK):
        return
    heard = vars(http).get(_LISTENED)
    if heard is None or heard.is_closed:
        heard = copy.copy(http)
        setattr(heard, _MARK, http)  # the original closes the connections when it is collected
        heard.send = listener.of_send(heard.send)
    client._client = heard  # type: ignore[attr-defined] # as above


def _listener_of(client: object) -> Listener | None:
    found = vars(client).get(_MARK)
    return found if isinstance(found, Listener) and found.client is client else None


def _client_of(thing: object) -> object | None:
    """Find the client that an object is or belongs to; see ClientOf."""
    if (googles := google_genai.client_of(thing)) is not None:
        return googles
    if _is_client(thing):
        return thing
    inside = getattr(thing, "_client", None) if _sdks(thing) else None
    return inside if _is_client(inside) else None


def _is_client(client: object) -> bool:
    needed = ("_client", *_METHODS)
    return bool(_sdks(client)) and all(hasattr(client, name) for name in needed)


def _sdks(client: object) -> set[str]:
    """List the SDKs whose classes a client is an instance of, normally one."""
    if google_genai.is_client(client):
        return {google_genai.SDK}
    return {kind.__module__.partition(".")[0] for kind in type(client).__mro__}.intersection(_SDKS)
