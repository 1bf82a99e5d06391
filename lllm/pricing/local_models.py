"""Recognises models that cost nothing because they run on the user's machine.

Only what is certain counts: a server on the same machine may be a proxy that somebody pays for, so
one is taken for local by the port that its maker has given it, and never by the host alone.
"""

from __future__ import annotations

import ipaddress

# https://docs.ollama.com/faq and https://lmstudio.ai/docs/developer/core/server
_BY_PORT = {11434: "ollama", 1234: "lm-studio"}
_LOCAL = frozenset(_BY_PORT.values())
# Ollama passes these on to its own servers: https://docs.ollama.com/cloud
_HOSTED_ENDINGS = ("-cloud", ":cloud")


def local_provider(host: str | None, port: int | None) -> str | None:
    """Recognise a server on this machine by its default port.

    Args:
        host: Where the server answers.
        port: The same.

    Returns:
        "ollama" or "lm-studio", None for any other server.
    """
    if host is None or port is None or not _is_loopback(host):
        return None
    return _BY_PORT.get(port)


def why_free(
    provider: str, model: str, *, host: str | None = None, port: int | None = None
) -> str | None:
    """Explain why a model on the user's own machine costs nothing.

    Args:
        provider: Who bills; the host itself where nobody was named.
        model: As the provider calls it.
        host: Where it was asked, which counts where nobody was named.
        port: The same.

    Returns:
        A sentence; None where it may cost something.
    """
    if provider == host:
        provider = local_provider(host, port) or provider
    if provider not in _LOCAL or model.endswith(_HOSTED_ENDINGS):
        return None
    return f"It ran on a machine of one's own ({provider})."


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
