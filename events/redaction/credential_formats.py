"""Finds secrets by their format or by the text around them.

It finds the password in a URL or command, the text after `Bearer` and `Basic`, private keys in PEM,
JSON Web Tokens, and the secret part of webhooks and signed URLs.

Sources: RFC 3986 section 3.2.1 (userinfo), RFC 7468 (PEM), RFC 7519 (JWT), RFC 9580 section 6.2
(OpenPGP armor), all at https://www.rfc-editor.org.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator

from lllm.events.redaction.named_credentials import Span, is_basic
from lllm.events.redaction.randomness import is_masked, is_random, is_stand_in

_PEM = re.compile(r"-{4,5} ?BEGIN (?:[A-Z0-9]+ ){0,5}PRIVATE KEY(?: BLOCK)? ?-{4,5}")
_PEM_END = re.compile(r"-{4,5} ?END (?:[A-Z0-9]+ ){0,5}PRIVATE KEY(?: BLOCK)? ?-{4,5}")
_PEM_BODY = re.compile(r"(?:[A-Za-z0-9+/=\s:,.()-]|\\+[rn/])*")
_LONGEST_PEM = 100_000


def private_keys(text: str) -> Iterator[Span]:
    """Find private keys in PEM or OpenPGP armor, also if their end is missing.

    Args:
        text: The text to search.

    Yields:
        The span of each key.
    """
    at = 0
    while begin := _PEM.search(text, at):
        ending = _PEM_END.search(text, begin.end(), begin.end() + _LONGEST_PEM)
        if ending is None:
            body = _PEM_BODY.match(text, begin.end(), begin.end() + _LONGEST_PEM)
            end = body.end() if body else begin.end()
            inside = text[begin.end() : end]
        else:
            end, inside = ending.end(), text[begin.end() : ending.start()]
        at = max(end, begin.end())
        if re.search(r"[A-Za-z0-9+/]{16}", inside) and not is_masked(inside.strip()):
            yield begin.start(), end, "private-key"


_JWT = re.compile(
    r"e(?:yJ|yA|wo|w0)[A-Za-z0-9_-]{8,4096}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{16,}"
    r"(?:\.[A-Za-z0-9_-]+){0,2}"
)


def json_web_tokens(text: str) -> Iterator[Span]:
    """Find JSON Web Tokens: 3 or 5 parts in base64url, of which the first is a JSON object.

    Args:
        text: The text to search.

    Yields:
        The span of each token.
    """
    for match in _JWT.finditer(text):
        head = match[0].split(".", 1)[0]
        try:
            told = base64.urlsafe_b64decode(head + "=" * (-len(head) % 4))
        except (binascii.Error, ValueError):
            continue
        if b'"alg"' in told or b'"typ"' in told or b'"enc"' in told or b'"kid"' in told:
            yield match.start(), match.end(), "jwt"


_URL = re.compile(
    r"://[^\s/?#\"'<>@:\\]{0,256}:(?P<secret>[^\s/?\"'<>\\]{1,256})@(?=[A-Za-z0-9_\[%.-])"
)
_BEARER = re.compile(r"(?i:bearer)(?:[ \t]|%20|\+){1,8}(?P<secret>[A-Za-z0-9._~+/-]{16,}={0,2})")
_BASIC = re.compile(r"(?i:basic)[ \t]{1,8}(?P<secret>[A-Za-z0-9+/]{8,}={0,2})")
_USER = re.compile(
    r"(?<![A-Za-z0-9_-])(?:-u|--user|--proxy-user|-U)(?:[ \t]{1,8}|=)?[\"']?[^\s:\"']{0,64}:"
    r"(?P<secret>[^\s\"'\\]{1,256})"
)
_JAR = re.compile(r"(?<![A-Za-z0-9_-])-b[ \t]{0,8}[\"']?(?P<secret>[^\s\"'=;]+=[^\s\"'\\]+)")
_WEBHOOK = re.compile(
    r"hooks\.slack(?:-gov)?\.com/(?:services|workflows|triggers)/(?P<secret>[A-Za-z0-9+/_-]{20,})"
    r"|discord(?:app)?\.com/api/(?:v[0-9]+/)?webhooks/[0-9]+/(?P<discord>[A-Za-z0-9_-]{30,})"
    r"|webhook\.office\.com/webhookb2/(?P<teams>[A-Za-z0-9@/-]{40,})"
    r"|hooks\.zapier\.com/hooks/catch/(?P<zapier>[A-Za-z0-9/]{10,})"
)
_SIGNED = re.compile(
    r"(?i:[?&]sig=|x-amz-signature=|x-goog-signature=|sharedaccesssignature=|[?&;]signature=)"
    r"(?P<secret>[A-Za-z0-9%+/_~-]{32,}={0,2})"
)


def _of(
    kind: str, regex: re.Pattern[str], accepts: Callable[[str], bool], *needed: str
) -> tuple[str, re.Pattern[str], Callable[[str], bool], tuple[str, ...]]:
    return kind, regex, accepts, needed


_FORMS = (
    _of("url-password", _URL, lambda secret: not is_stand_in(secret), "://", "@"),
    _of(
        "authorization", _BEARER,
        lambda secret: is_random(secret, 16) and not is_stand_in(secret), "bearer",
    ),
    _of("authorization", _BASIC, is_basic, "basic"),
    _of("webhook", _WEBHOOK, lambda _: True, "hook", ".com/"),
    _of("signature", _SIGNED, lambda _: True, "sig"),
    _of(
        "password", _USER,
        lambda secret: not secret.isdigit() and not is_stand_in(secret), "-u", "curl",
    ),
    _of("cookie", _JAR, lambda _: True, "-b", "curl"),
)  # fmt: skip


def known_by_form(text: str) -> Iterator[Span]:
    """Find passwords in URLs and commands, credentials after their scheme, and secret URLs.

    Args:
        text: The text to search.

    Yields:
        The span of each secret.
    """
    lower = text.lower()
    for kind, regex, accepts, needed in _FORMS:
        if all(word in lower for word in needed):
            for match in regex.finditer(text):
                group = match.lastgroup or "secret"
                if accepts(match[group]):
                    yield (*match.span(group), kind)
