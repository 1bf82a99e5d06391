"""Finds the URL that a client calls, and the credentials that must not be recorded."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache

from lllm.invokers.http.endpoint import Access, access
from lllm.invokers.http.secrets import Secrets

_CREDENTIAL = re.compile("auth|key|token|secret|cookie", re.IGNORECASE)
# The header by which Amazon's request signing is recognised:
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
_SIGNED = re.compile(r"(?:Credential|Signature)=([^/,\s]+)")


class ClientEndpoint:
    """The URL that a client calls, and its credentials.

    Args:
        access: The base URL and what is known about it.
        keys: The credentials that the client was created with. No repr shows them.

    Attributes:
        access: The base URL and what is known about it.
        secrets: The texts that must not appear in any event.
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
            sdk: The name of the SDK, such as "openai".
            base_url: The client's base URL.
            *keys: The client's credentials; anything but a text is ignored, such as a function.
            provider: The provider that bills; None to find it by the base URL.

        Returns:
            The endpoint of the client.

        Raises:
            ConfigError: The base URL is not a web address.
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
            headers: The request's headers; they may have credentials that the client does not have.

        Returns:
            The secrets of both.
        """
        used = (*self._keys, *_credentials_in(headers))
        texts, secrets = self._last  # most requests have the same headers
        if texts != used:
            secrets = self.access.secrets(*used)
            self._last = (used, secrets)
        return secrets


def _credentials_in(headers: Mapping[str, str]) -> Iterator[str]:
    """Yield the values of headers whose names suggest credentials, with and without scheme."""
    for name, value in headers.items():
        if _names_credential(name):
            yield value
            yield value.rpartition(" ")[2]
            if "=" in value:
                yield from _SIGNED.findall(value)


@lru_cache(maxsize=256)  # the same come with each request
def _names_credential(name: str) -> bool:
    return _CREDENTIAL.search(name) is not None
