"""Finds secrets by the names they are assigned to, such as `api_key`.

It finds the value of an `Authorization` header or a cookie with any scheme, in a header, a JSON
member, a repr or a command; and values that are assigned to names like `api_key`, `DB_PASSWORD` or
`client_secret`. Documents are full of placeholders (`<your password>`, `$TOKEN`,
`os.environ["KEY"]`): these are kept, and so are plain words if only the name suggests a secret.

Sources: RFC 9110 section 11 (credentials), RFC 6265 (cookies), both at https://www.rfc-editor.org.
"""

from __future__ import annotations

import base64
import binascii
import re
import string
from collections.abc import Iterator

from lllm.events.redaction.randomness import is_plain_words, is_random, is_stand_in

Span = tuple[int, int, str]  # the start, the end, and the kind of a secret

NEEDLES = ("auth", "cookie", "key", "secret", "token", "passw", "passphrase", "pwd", "credential")
_LONGEST = 4_096  # the most characters of one value
_NAME_CHARACTERS = 64

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_NUMBERED = re.compile(r"_?[0-9]{1,2}$")
_KEY = re.compile(
    r"(?:^|_)(?:api|access|secret|private|account|subscription|auth|signing|encryption|master|admin"
    r"|client|app|service|shared|session|storage|jwt|webhook|deploy)_?key$|(?:api|secret)key$"
)
_PASSWORD = re.compile(r"(?:password|passwd|passphrase|pwd)$")
_TOKEN = re.compile(
    r"(?:^|_)(?:access|refresh|id|auth|bearer|session|api|bot|user|security|secret|private|vault"
    r"|xsrf|csrf|github|gitlab|slack|hf|npm|deploy|service|registry|personal|oauth|jwt)_?token$"
)
_COUNTED = re.compile(  # names of a model's tokens, and of positions in a list
    r"(?:^|_)(?:max|min|num|n|page|next|previous|continuation|sync|eos|bos|pad|unk|mask|sep|cls|stop"
    r"|start|end|first|last|per|prompt|completion|input|output|total|new|special|resume|cursor"
    r"|image|audio|text|cached|reasoning|word|sub|think|thinking)_?token$"
)

# The name of a value decides how strictly the value is checked.
_HEADER, _COOKIE, _STRONG, _WEAK, _AUTH = "authorization", "cookie", "strong", "weak", "auth"


def _meaning(name: str) -> tuple[str, str] | None:
    """How likely a name is that of a secret, and of which kind; None for ordinary names."""
    plain = _CAMEL.sub("_", name).lower().replace("-", "_").replace(".", "_").strip("_")
    plain = _NUMBERED.sub("", plain)
    if plain.endswith("authorization"):
        return _HEADER, "authorization"
    if plain in ("cookie", "set_cookie", "cookie2", "set_cookie2", "http_cookie"):
        return _COOKIE, "cookie"
    if plain == "auth":
        return _AUTH, "authorization"
    if plain.endswith("secret_access_key"):
        return _STRONG, "aws-secret-key"
    if _KEY.search(plain):
        return _STRONG, "api-key"
    if plain.endswith("secret"):
        return _STRONG, "secret"
    if _PASSWORD.search(plain):
        return _STRONG, "password"
    if plain.endswith("token") and not _COUNTED.search(plain):
        upper = name.isupper() and "_" in name
        return (_STRONG if upper or _TOKEN.search(plain) else _WEAK), "token"
    if plain.endswith(("credential", "credentials")):
        return _WEAK, "credential"
    return None


# -- Authorization and similar headers

_SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9_-]{1,30})[ \t]+(?=\S)")
_WITH_PARAMETERS = frozenset({
    "digest", "aws4-hmac-sha256", "aws4-ecdsa-p256-sha256", "oauth", "hawk", "hmac", "signature",
    "sharedkey", "sharedkeylite", "mac", "googlelogin", "scram-sha-256", "acs3-hmac-sha256",
    "tc3-hmac-sha256", "hmac-sha256", "goog4-rsa-sha256", "dpop", "vapid", "mutual",
})  # fmt: skip
_CREDENTIAL = re.compile(r"[^\s\"'`,;<>\\]+")


def _authorization(value: str, *, whole: bool) -> tuple[int, int] | None:
    """Find the credential in the value of an Authorization header.

    `whole` is true if the value is a complete text, and not the rest of a line that may continue in
    prose.
    """
    scheme = _SCHEME.match(value)
    start = scheme.end() if scheme else len(value) - len(value.lstrip())
    name = scheme[1].lower() if scheme else ""
    if whole or name in _WITH_PARAMETERS:
        end = len(value.rstrip())
    else:
        run = _CREDENTIAL.match(value, start)
        end = run.end() if run else start
    secret = value[start:end]
    if not secret or is_stand_in(secret) or len(secret) < 4:
        return None
    if name in _WITH_PARAMETERS:
        return (start, end) if "=" in secret or ":" in secret or is_random(secret, 16) else None
    if whole and name in ("bearer", "basic", "token"):
        return None if " " in secret.strip() and is_plain_words(secret) else (start, end)
    if is_plain_words(secret):
        return None
    return start, end


_PAIR = re.compile(r"[^\s=;,\"']+=[^\s;]")


def _cookie(value: str, *, whole: bool) -> tuple[int, int] | None:
    start, end = len(value) - len(value.lstrip()), len(value.rstrip())
    if _PAIR.match(value, start) and not is_stand_in(value[start:end]):
        return start, end
    return (start, end) if whole and is_random(value[start:end], 12) else None


_MEMBER = re.compile(r"[A-Za-z0-9_. -]{3,64}")


def in_member(name: str, value: str) -> Span | None:
    """Find the secret in the value of a JSON member or header.

    Args:
        name: The name of the member or header.
        value: The value of the member or header.

    Returns:
        The span of the secret and its kind; None if there is no secret.
    """
    if not value or _MEMBER.fullmatch(name) is None:
        return None
    lower = name.lower()
    if not any(needle in lower for needle in NEEDLES):
        return None
    meaning = _meaning(name)
    return meaning and _judged(meaning, name, value, quoted=True, whole=True)


def _judged(
    meaning: tuple[str, str], name: str, value: str, *, quoted: bool, whole: bool
) -> Span | None:
    sort, kind = meaning
    if sort in (_HEADER, _COOKIE):
        at = (_authorization if sort == _HEADER else _cookie)(value, whole=whole)
        return at and (*at, kind)
    start, end = len(value) - len(value.lstrip()), len(value.rstrip())
    secret = value[start:end]
    if not secret or is_stand_in(secret):
        return None
    if sort == _AUTH:
        good = is_basic(secret)
    elif sort == _WEAK:
        good = is_random(secret, 16)
    elif name.isupper() and ("_" in name or quoted):
        good = (
            len(secret) >= 4 and not secret.isspace() and not (secret.isdigit() and len(secret) < 6)
        )
        good = good and not secret.startswith(("/", "./", "~/")) and " " not in secret
    else:
        good = len(secret) >= 6 and not is_plain_words(secret) and " " not in secret
        good = good and (quoted or is_random(secret, 6))
    if good and secret.lower().startswith(("bearer ", "basic ")):
        return (start + secret.index(" ") + 1, end, kind)
    return (start, end, kind) if good else None


def is_basic(text: str) -> bool:
    """True if a text is a user name and password in the encoding of the Basic scheme (RFC 7617).

    Args:
        text: The text after the scheme.

    Returns:
        False for any other text.
    """
    try:
        told = base64.b64decode(text + "=" * (-len(text) % 4), validate=True).decode()
    except (binascii.Error, ValueError):
        return False
    return ":" in told and told.isprintable()


# -- Names and their values in a text

_NAME_RUN = re.compile(r"[A-Za-z0-9_.-]*")
_OF_NAMES = string.ascii_letters + string.digits + "_.-"


def _trailing(text: str) -> int:
    """Count the characters at the end of a text that may belong to a name."""
    return len(text) - len(text.rstrip(_OF_NAMES))


_TAIL = re.compile(
    r"""(?P<close>\\*["'`])?\]?[ \t]{0,8}
    (?:(?P<sep>=>|:=|:|=(?!=)|,)(?:\s|\\+[rnt](?=[\s\\"'])){0,60}|(?P<space>[ \t]+))
    (?P<open>[\[(]?)\s{0,8}(?:[bBrRuUfF]{1,2}(?=\\*["']))?(?P<quote>\\*["'`])?""",
    re.VERBOSE,
)
_LINE = re.compile(r"(?:[^\r\n\\]|\\(?![\\rn])|\\(?=\\{1,8}[^\\rn]))*")
_OUTER = re.compile(r"\\*[\"'`]\Z")
_RUN = re.compile(r"[^\s\"'`,;&<>(){}\[\]|\\]+")
_SETTING = re.compile(r"(?:login\s+\S+|ENV|setx|setenv|export)\s+\Z")


def _names(text: str) -> Iterator[tuple[int, int]]:
    """Find the places of names that may mark secrets."""
    lower = text.lower()
    if len(lower) != len(text):
        lower = text  # lower() makes some rare letters longer; then the text is searched as it is
    seen: set[int] = set()
    for needle in NEEDLES:
        at = lower.find(needle)
        while at >= 0:
            run = _NAME_RUN.match(text, at, at + _NAME_CHARACTERS)
            end = run.end() if run else at
            start = at - _trailing(text[max(0, at - _NAME_CHARACTERS) : at])
            if needle == "key" and lower[max(0, start - 4) : start] == "api " and start == at:
                start -= 4
            if end not in seen:
                seen.add(end)
                yield start, end
            at = lower.find(needle, max(end, at + 1))


def assigned(text: str) -> Iterator[Span]:
    """Find secrets after a name that they are assigned to, such as `password=`.

    Args:
        text: The text to search.

    Yields:
        The span of each secret and its kind.
    """
    behind = 0
    for start, end in sorted(_names(text)):
        if start < behind:
            continue  # inside a value that was found already
        option = text.startswith("--", start)
        name = text[start:end].lstrip("-.").replace(" ", "_")
        name = name.rsplit("=", 1)[-1]
        meaning = _meaning(name.rstrip(".-"))
        tail = _TAIL.match(text, end)
        if meaning is None or tail is None:
            continue
        if tail["space"] and not (option or _SETTING.search(text, max(0, start - 99), start)):
            continue
        if tail["sep"] == "," and not (tail["close"] and tail["quote"]):
            continue
        sure = option or tail["space"] is not None
        found = _value(text, start, tail, meaning, name, sure)
        if found is not None:
            behind = found[1]
            yield found


def _value(
    text: str, start: int, tail: re.Match[str], meaning: tuple[str, str], name: str, sure: bool
) -> Span | None:
    at, quote = tail.end(), tail["quote"]
    is_header = meaning[0] in (_HEADER, _COOKIE)
    line = _LINE.match(text, at, at + _LONGEST) if quote or is_header else None
    end = line.end() if line else min(len(text), at + _LONGEST)
    if quote:
        end = _closed(text, quote, at, end)
    elif is_header:
        if tail["sep"] == "=" and meaning[0] == _COOKIE:
            return None  # `cookie = ...` is code
        outer = _OUTER.search(text, max(0, start - 9), start)
        if outer:
            end = _closed(text, outer[0], at, end)
    else:
        run = _RUN.match(text, at, min(end, at + 1024))
        end = run.end() if run else at
        if text[end : end + 1] in ("(", "["):
            return None  # a call or an index: code
        while end > at and text[end - 1] in ".:!?":
            end -= 1
    found = _judged(meaning, name, text[at:end], quoted=bool(quote) or sure, whole=bool(quote))
    return found and (at + found[0], at + found[1], found[2])


def _closed(text: str, quote: str, at: int, end: int) -> int:
    """Find the end of a quoted text: the same quote, escaped equally often."""
    closing = re.compile(rf"(?<!\\){re.escape(quote)}").search(text, at, at + _LONGEST)
    if closing is not None and (closing.start() < end or "\n" not in text[at : closing.start()]):
        return closing.start()
    return end
