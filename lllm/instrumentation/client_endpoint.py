"""Finds the URL that a client calls, and the credentials that must not be recorded."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache

from lllm.invokers.http.endpoint import Access, access
from lllm.invokers.http.secrets import Secrets

_CREDENTIAL = re.compile("auth|key|token|secret|cookie", re.IGNORECASE)
# What Amazon's way to sign a request has in its header:
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
_SIGNED = re.compile(r"(?:Credential|Signature)=([^/,\s]+)")


class ClientEndpoint:
    """The URL that a client calls, and its credentials.

    Args:
        access: To its base URL.
        keys: Those that the client was made with. No repr shows them.

    Attributes:
        access: As given.
        secrets: What must not be told of any call.
    """

    def __init__(self, access: Access, keys: tuple[str, ...]) -> None:
        self.access = access
        self._keys = keys
        self.secrets = access.secrets(*keys)
        self._last = (keys, self.secrets)

    @classmethod
    def of(
        cls, sdk: str, base_url: object, *keys: object, provider: str | None = None
    ) -> ClientEndpoint:
        """Make the ClientEndpoint of an SDK's client.

        Args:
            sdk: Its name.
            base_url: As the client has it.
            *keys: What the client has for keys; an SDK may have a function there.
            provider: Who bills there, None for what the base URL says.

        Returns:
            The endpoint.

        Raises:
            ConfigError: The base URL is no web address.
        """
        name = sdk.upper()
        goes = access(
            str(base_url), api_key=None, timeout=0.0,
            key_env=f"{name}_API_KEY", headers_env=f"{name}_CUSTOM_HEADERS",
            provider=provider,
        )  # fmt: skip
        return cls(goes, tuple(key for key in keys if isinstance(key, str)))

    def secrets_with(self, headers: Mapping[str, str]) -> Secrets:
        """Collect the secrets of the client and of one request.

        Args:
            headers: Of the request; they may have keys that the client did not have before.

        Returns:
            The secrets.
        """
        used = (*self._keys, *_credentials_in(headers))
        texts, secrets = self._last  # most requests have the same
        if texts != used:
            secrets = self.access.secrets(*used)
            self._last = (used, secrets)
        return secrets


def _credentials_in(headers: Mapping[str, str]) -> Iterator[str]:
    """Yield the values of headers whose names mean credentials, with and without scheme."""
    for name, value in headers.items():
        if _names_credential(name):
            yield value
            yield value.rpartition(" ")[2]
            if "=" in value:
                yield from _SIGNED.findall(value)


@lru_cache(maxsize=256)  # the same come with each request
def _names_credential(name: str) -> bool:
    return _CREDENTIAL.search(name) is not None
