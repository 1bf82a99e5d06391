"""Finds an SDK's client inside another object, such as a chat model of LangChain.

No framework is imported or recognised by its classes; only the attributes in `vars` are searched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from types import ModuleType

# Attributes in which LangChain's chat models, Instructor, LlamaIndex and the SDKs' own resources
# keep their client.
_NAMES = (
    "root_client", "root_async_client", "_client", "_async_client", "_aclient",
    "client", "async_client",
)  # fmt: skip
_DEPTH = 3  # an agent has a model, which has a provider, which has the client
_MOST = 500  # objects searched, so that a large graph of objects does not take long


# A function that returns the client that an SDK's object, such as `client.chat`, is or belongs to;
# None for other objects.
ClientOf = Callable[[object], object | None]


def clients_inside(given: object, client_of: ClientOf) -> list[object]:
    """Find the clients among the attributes of an object.

    given: Any object.
    client_of: Finds the client that an object is or belongs to.

    Returns:
        The clients, each of them once.
    """
    found: dict[int, object] = {}
    for name in _NAMES:
        with suppress(Exception):  # some attributes are computed when they are read, which may fail
            client = client_of(getattr(given, name, None))
            if client is not None:
                found[id(client)] = client
    return list(found.values())


def holder_of(given: object, client_of: ClientOf) -> str | None:
    """Find the attribute of an object that contains clients.

    Args:
        given: Any object.
        client_of: Finds the client that an object is or belongs to.

    Returns:
        The attribute, such as ".model"; None if no attribute contains clients.
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
    with suppress(Exception):  # pydantic keeps private attributes separately
        private = object.__getattribute__(one, "__pydantic_private__")
    for place in (getattr(one, "__dict__", None), private):
        for name, value in list(place.items()) if isinstance(place, Mapping) else ():
            if hasattr(value, "__dict__") and not isinstance(value, type | ModuleType):
                yield str(name), value
