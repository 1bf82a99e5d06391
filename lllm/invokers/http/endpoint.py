"""Where an invoker's requests go, and by what right.

A key is held so that no repr, and no traceback with local variables, shows it. What must not be
told is known here, as `Secrets`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from lllm.events.errors import ConfigError
from lllm.invokers.http.secrets import Secret, Secrets
from lllm.pricing.local_models import local_provider
from lllm.pricing.providers import PROVIDERS, provider_at, provider_of

__all__ = ["PROVIDERS", "Access", "Secret", "access", "provider_of"]

# Who bills at an address that nobody knows.
VARIABLE = "LLLM_PROVIDER"


@dataclass(frozen=True)
class Access:
    """Where the requests go, and by what right; `access` makes it.

    base_url: it may hold a password. timeout: seconds. key_env, headers_env: the variables that
    hold the key, where none was given, and the headers that the SDK sends along.
    """

    base_url: Secret
    host: str
    port: int
    provider: str
    api_key: Secret | None
    timeout: float
    key_env: str
    headers_env: str

    def key(self) -> str:
        """The key that was given, or the environment's as it is now; "" for none where none is
        needed.

        Raises ConfigError for one that can't be sent, and where a provider that is known has none.
        """
        key = self.api_key or Secret(os.environ.get(self.key_env, "").strip())
        if not key.text and provider_of(self.host) is not None:
            raise ConfigError(
                f"{self.host} asks for an API key: set {self.key_env}, or give the invoker "
                "api_key=..."
            )
        if not key.fits_a_header():
            raise ConfigError(
                "The API key has characters that no HTTP header can carry. Was more than the key "
                f"copied into {self.key_env} or api_key=?"
            )
        return key.text

    def secrets(self, *used: str | None) -> Secrets:
        """All that must not be told. used: the keys and tokens that a client was made with."""
        ambient = os.environ.get(self.headers_env, "")
        values = [line.partition(":")[2].strip() for line in ambient.split("\n")]
        return Secrets(*used, urlsplit(self.base_url.text).password, *values)


def access(
    base_url: str,
    *,
    api_key: str | None,
    timeout: float,
    key_env: str,
    headers_env: str,
    provider: str | None = None,
) -> Access:
    """The access to a base URL.

    provider: who bills there, as genai-prices names them; None for what the address says, and
        LLLM_PROVIDER where it is nobody known.

    Raises ConfigError for a base URL that is no web address.
    """
    url = base_url.strip()
    host, port = _address(url)
    key = Secret(api_key.strip()) if api_key and api_key.strip() else None
    name = provider or _biller(url, host, port)
    return Access(Secret(url), host, port, name, key, timeout, key_env, headers_env)


def _biller(url: str, host: str, port: int) -> str:
    """Who bills at an address, as far as it says so: the host itself where it does not."""
    known = provider_at(url)
    if known is None and local_provider(host, port) is None:
        known = os.environ.get(VARIABLE, "").strip() or None
    if known is None and "." not in host and host != "localhost":
        return f"{host}:{port}"  # a name of one's own network, which may be a provider's, too
    return known or host


def _address(base_url: str) -> tuple[str, int]:
    """The host and port of a base URL, without what else it may hold."""
    try:
        parts = urlsplit(base_url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigError(
            "base_url (or the variable that it came from) is no web address: it should look like "
            "'http://localhost:11434/v1'."
        )
    return host, port or (443 if parts.scheme == "https" else 80)
