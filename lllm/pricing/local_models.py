"""Recognises models that cost nothing because they run on the user's machine.

Only certain cases count: another server on this machine may be a proxy to a provider that bills, so
a local server is recognised by its maker's default port, never by the host alone.
"""

from __future__ import annotations

import ipaddress

# https://docs.ollama.com/faq and https://lmstudio.ai/docs/developer/core/server
_BY_PORT = {11434: "ollama", 1234: "lm-studio"}
_LOCAL = frozenset(_BY_PORT.values())
# Ollama sends these models' calls to its own servers: https://docs.ollama.com/cloud
_HOSTED_ENDINGS = ("-cloud", ":cloud")


def local_provider(host: str | None, port: int | None) -> str | None:
    """Recognise a server on this machine by its default port.

    Args:
        host: The host of the server; None if unknown.
        port: The port of the server; None if unknown.

    Returns:
        "ollama" or "lm-studio"; None for any other server.
    """
    if host is None or port is None or not _is_loopback(host):
        return None
    return _BY_PORT.get(port)


def why_free(
    provider: str, model: str, *, host: str | None = None, port: int | None = None
) -> str | None:
    """Explain why a model on the user's own machine costs nothing.

    Args:
        provider: The provider that bills; the host if no provider was named.
        model: The model by the provider's name.
        host: The host of the server, used if no provider was named; None if unknown.
        port: The port of the server; None if unknown.

    Returns:
        A sentence; None if the model may cost something.
    """
    if provider == host:
        provider = local_provider(host, port) or provider
    if provider not in _LOCAL or model.endswith(_HOSTED_ENDINGS):
        return None
    return f"It ran on the user's own machine ({provider})."


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
