"""Hides credentials in the parameters of a model before they are recorded.

Some providers' parameters carry credentials (`extra_headers={"Authorization": ...}`). The model is
called with them; the record says that there was one.
"""

from __future__ import annotations

from collections.abc import Mapping

HIDDEN = "(hidden)"

# Compared without case, - and _: a key that is, or a header that has, one of these names.
_SECRET = frozenset(
    {
        "accesstoken", "apikey", "authorization", "authorizationtoken", "authtoken", "bearertoken",
        "clientsecret", "cookie", "password", "proxyauthorization", "secret", "secretkey", "token",
        "xapikey",
    }
)  # fmt: skip
_HEADERS = frozenset({"headers", "extraheaders", "defaultheaders"})  # nothing in them is for a log


def without_secrets(params: Mapping[str, object]) -> dict[str, object]:
    """Hide the values of parameters whose names mean a secret, at any depth.

    Args:
        params: What a model is called with.

    Returns:
        A copy with `HIDDEN` in their place.
    """
    return {key: _hide_secret(key, value) for key, value in params.items()}


def _hide_secret(key: object, value: object) -> object:
    """Copy a value, with `HIDDEN` in place of members whose names mean secrets."""
    name = str(key).lower().replace("-", "").replace("_", "")
    if isinstance(value, Mapping):  # a JSON schema may well have a property `password`
        if name in _HEADERS:
            return dict.fromkeys(value, HIDDEN)
        return {inner: _hide_secret(inner, item) for inner, item in value.items()}
    if name in _SECRET:
        return HIDDEN
    if isinstance(value, list | tuple):  # servers of tools, each with credentials of its own
        return [_hide_secret("", item) for item in value]
    return value
