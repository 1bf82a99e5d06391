"""What a model is called with, without what no log may hold.

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
    """The parameters, at any depth, with the values of those that are named as secrets hidden."""
    return {key: _shown(key, value) for key, value in params.items()}


def _shown(key: object, value: object) -> object:
    name = str(key).lower().replace("-", "").replace("_", "")
    if isinstance(value, Mapping):  # a JSON schema may well have a property `password`
        if name in _HEADERS:
            return dict.fromkeys(value, HIDDEN)
        return {inner: _shown(inner, item) for inner, item in value.items()}
    if name in _SECRET:
        return HIDDEN
    if isinstance(value, list | tuple):  # servers of tools, each with credentials of its own
        return [_shown("", item) for item in value]
    return value
