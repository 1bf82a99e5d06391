"""The base URL of an invoker's requests, and the API key for it.

A key is stored so that no repr, and no traceback with local variables, shows it. `Secrets` has all
texts that must not appear in messages or events.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from lllm.events.errors import ConfigError
from lllm.invokers.http.secrets import Secret, Secrets
from lllm.pricing.provider_hosts import biller_at, provider_of


@dataclass(frozen=True)
class Access:
    """The base URL of an invoker's requests, and the API key for it; made by `access`.

    Attributes:
        base_url: The base URL, which may contain a password.
        host: The host of the base URL.
        port: The port of the base URL.
        provider: The provider that bills.
        api_key: The key that was given; None to use that of the environment.
        timeout: Seconds to wait for a connection, and for each next piece of an answer.
        key_env: The environment variable that has the key if none was given.
        headers_env: The environment variable with headers that the SDK sends along.
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
        """Get the API key: the given one, or the current one of the environment.

        Returns:
            The key; "" if none is set and none is needed.

        Raises:
            ConfigError: The key can't be sent in a header, or a known provider has no key.
        """
        key = self.api_key or Secret(os.environ.get(self.key_env, "").strip())
        if not key.text and provider_of(self.host) is not None:
            raise ConfigError(
                f"{self.host} needs an API key: set {self.key_env}, or give the invoker api_key=..."
            )
        if not key.fits_a_header():
            raise ConfigError(
                "The API key has characters that no HTTP header can carry. Was more than the key "
                f"copied into {self.key_env} or api_key=?"
            )
        return key.text

    def secrets(self, *used: str | None) -> Secrets:
        """Collect all texts that must not be shown.

        Args:
            *used: The keys and tokens that a client was made with.

        Returns:
            The secrets: those, and any in the base URL and in the environment's headers.
        """
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
    """Make the Access for a base URL.

    Args:
        base_url: A web address.
        api_key: The key; None to use that of the environment.
        timeout: Seconds to wait for a connection, and for each next piece of an answer.
        key_env: The environment variable that has the key if none is given.
        headers_env: The environment variable with headers that the SDK sends along.
        provider: The provider that bills, by its name in genai-prices; None to find it by the
            address, or by LLLM_PROVIDER if the address is unknown.

    Returns:
        The access for that URL.

    Raises:
        ConfigError: The base URL is not a web address.
    """
    url = base_url.strip()
    host, port = host_and_port(url)
    key = Secret(api_key.strip()) if api_key and api_key.strip() else None
    name = provider or biller_at(url, host, port)
    return Access(Secret(url), host, port, name, key, timeout, key_env, headers_env)


def host_and_port(base_url: str) -> tuple[str, int]:
    """Read the host and port of a base URL.

    Args:
        base_url: A web address.

    Returns:
        The host, and the port; that of the scheme if the address names none.

    Raises:
        ConfigError: The base URL is not a web address.
    """
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
