"""Hides credentials in the parameters of a model before they are recorded.

Some providers' parameters contain credentials (`extra_headers={"Authorization": ...}`). They are
sent to the provider, but the record only shows that there was one.
"""

from __future__ import annotations

from collections.abc import Mapping

HIDDEN = "(hidden)"

# Names compared without case, - and _: a key that equals, or a header that contains, one of them.
_SECRET = frozenset(
    {
        "accesstoken", "apikey", "authorization", "authorizationtoken", "authtoken", "bearertoken",
        "clientsecret", "cookie", "password", "proxyauthorization", "secret", "secretkey", "token",
        "xapikey",
    }
)  # fmt: skip
# none of their values are recorded
_HEADERS = frozenset({"headers", "extraheaders", "defaultheaders"})


def without_secrets(params: Mapping[str, object]) -> dict[str, object]:
    """Hide the values of parameters whose names suggest a secret, at any depth.

    Args:
        params: The parameters of a model call.

    Returns:
        A copy with `HIDDEN` in place of these values.
    """
    return {key: _hide_secret(key, value) for key, value in params.items()}


def _hide_secret(key: object, value: object) -> object:
    """Copy a value, with `HIDDEN` in place of members whose names suggest secrets."""
    name = str(key).lower().replace("-", "").replace("_", "")
    if isinstance(value, Mapping):  # a JSON schema may have a property named `password`
        if name in _HEADERS:
            return dict.fromkeys(value, HIDDEN)
        return {inner: _hide_secret(inner, item) for inner, item in value.items()}
    if name in _SECRET:
        return HIDDEN
    if isinstance(value, list | tuple):  # such as servers of tools, each with its own credentials
        return [_hide_secret("", item) for item in value]
    return value
