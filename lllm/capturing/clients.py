"""Where a client of an SDK is listened to.

The SDKs of OpenAI and Anthropic are made alike: every call goes through `request`, and each attempt
of it through `send` of an httpx client. Both are replaced on this one object; what they return is
the SDK's own. `copy` and `with_options` make other clients, so these are captured, too.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import TypeVar

from lllm.capturing.homes import Homes
from lllm.capturing.listening import AsyncListener, Listener, SyncListener
from lllm.events.errors import ConfigError
from lllm.invokers.sdk_versions import require_supported

T = TypeVar("T")

_MARK = "_lllm_listener"
_SDKS = ("openai", "anthropic")


def listen(
    client: object, homes: Homes, *, ask_for_usage: bool, provider: str | None = None
) -> None:
    """Have the calls of a client recorded; one that is captured already stays as it is.

    homes: where. ask_for_usage, provider: see `capture`. Raises ConfigError for what is no such
    client, MissingExtra for one of an SDK's version that is not supported.
    """
    if not _is_client(client):
        raise ConfigError(
            "capture takes a client of openai or anthropic (OpenAI(), AsyncAnthropic(), ...), "
            f"not {client!r:.200}."
        )
    if hasattr(client, _MARK):
        return
    for sdk in _sdks(client):
        require_supported(sdk)
    request = client.request  # type: ignore[attr-defined] # see _is_client
    kind = AsyncListener if inspect.iscoroutinefunction(request) else SyncListener
    listener: Listener = kind(client, homes, ask_for_usage=ask_for_usage, provider=provider)
    setattr(client, _MARK, listener)
    _replace(client, "request", listener.of_request)
    # The httpx client may be another's, too: this one gets a copy, with the same connections.
    http = client._client  # type: ignore[attr-defined] # see _is_client
    if not hasattr(http, _MARK):
        heard = copy.copy(http)
        setattr(heard, _MARK, http)  # which closes its connections when it is collected
        _replace(heard, "send", listener.of_send)
        client._client = heard  # type: ignore[attr-defined] # as above

    def captured(make: Callable[..., object]) -> Callable[..., object]:
        def made(*args: object, **options: object) -> object:
            other = make(*args, **options)
            listen(other, homes, ask_for_usage=ask_for_usage, provider=provider)
            return other

        return made

    for name in ("copy", "with_options"):
        _replace(client, name, captured)


def _is_client(client: object) -> bool:
    needed = ("_client", "request", "copy", "with_options")
    return bool(_sdks(client)) and all(hasattr(client, name) for name in needed)


def _sdks(client: object) -> set[str]:
    """The SDKs whose classes a client is of, normally one."""
    return {kind.__module__.partition(".")[0] for kind in type(client).__mro__}.intersection(_SDKS)


def _replace(target: object, name: str, by: Callable[[Callable[..., T]], object]) -> None:
    setattr(target, name, by(getattr(target, name)))
