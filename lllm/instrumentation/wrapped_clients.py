"""Finds an SDK's client inside another object, such as a chat model of LangChain.

No framework is imported, or known by its classes: attributes are looked at, as `vars` has them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from types import ModuleType

# Where others keep such a client: LangChain's chat models, Instructor, LlamaIndex, the SDKs' own
# resources.
_NAMES = (
    "root_client", "root_async_client", "_client", "_async_client", "_aclient",
    "client", "async_client",
)  # fmt: skip
_DEPTH = 3  # an agent has a model, which has a provider, which has the client
_MOST = 500  # things looked at, so that no graph of the user's takes long


# The client that a thing of an SDK is or belongs to, as `client.chat.completions`; None for others.
ClientOf = Callable[[object], object | None]


def clients_inside(given: object, client_of: ClientOf) -> list[object]:
    """Find the clients among the attributes of an object.

    Args:
        given: Anything.
        client_of: Tells the client that a thing of an SDK is or belongs to.

    Returns:
        The clients, each once.
    """
    found: dict[int, object] = {}
    for name in _NAMES:
        with suppress(Exception):  # some are made when they are asked for, which may fail
            client = client_of(getattr(given, name, None))
            if client is not None:
                found[id(client)] = client
    return list(found.values())


def holder_of(given: object, client_of: ClientOf) -> str | None:
    """Find the attribute of an object that contains clients.

    Args:
        given: Anything.
        client_of: Tells the client that a thing of an SDK is or belongs to.

    Returns:
        The attribute, as ".model"; None for none.
    """
    waiting = [("", given)]
    seen = {id(given)}
    for _ in range(_DEPTH):
        below = []
        for path, one in waiting:
            for name, value in _attributes(one):
                if id(value) in seen or len(seen) > _MOST:
                    continue
                seen.add(id(value))
                below.append((f"{path}.{name}", value))
        for path, one in below:
            if client_of(one) is not None or clients_inside(one, client_of):
                return path
        waiting = below
    return None


def _attributes(one: object) -> Iterator[tuple[str, object]]:
    """Yield the attributes of an object that aren't plain values, without running its code."""
    private = None
    with suppress(Exception):  # pydantic's, which stand apart
        private = object.__getattribute__(one, "__pydantic_private__")
    for place in (getattr(one, "__dict__", None), private):
        for name, value in list(place.items()) if isinstance(place, Mapping) else ():
            if hasattr(value, "__dict__") and not isinstance(value, type | ModuleType):
                yield str(name), value
