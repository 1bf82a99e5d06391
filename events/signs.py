"""A fast look for credentials that are known by what they are called or how they are sent.

It is asked of every event, so it is made of what Python does fast. One `translate` leaves of a text
little but small letters and what joins a name and its value; a few searches for one byte each then
come to all places where a credential may be. Most texts have no such place. Where one has, the text
itself is looked at, expression by expression.

`re` finds the one byte that an expression begins with thirty times as fast as a byte of a set, so
each expression begins with a byte, and looks back from it.
"""

from __future__ import annotations

import re

# What may stand within a name, or between a name and its value.
_DROPPED = b"0123456789 \t\"'`\\]_.-"
# Joiners are one byte, and so are letters that are rare: they are found in one search.
# Joiners are made one byte, and letters that are rare another: one search finds them all.
_SAME = {"=": ":", ",": ":", "b": "k", "x": "v"}


def _table() -> bytes:
    table = bytearray(bytes(range(256)).lower())
    for was, now in _SAME.items():
        table[ord(was)] = table[ord(was.upper())] = ord(now)
    return bytes(table)


_SQUEEZED = _table()


def _squeezed(*words: str) -> list[str]:
    return [word.encode().translate(_SQUEEZED).decode() for word in words]


def _behind(*words: str) -> str:
    """That one of these words ends here."""
    return "|".join(f"(?<={word})" for word in _squeezed(*words))


_KINDS = (
    "authorization", "cookie", "auth", "secret", "password", "passwd", "passphrase", "pwd",
    "token", "credential", "credentials",
)  # fmt: skip
_KEYS = tuple(
    f"{word}key" for word in (
        "api", "access", "secret", "private", "account", "subscription", "auth", "signing",
        "encryption", "master", "admin", "client", "app", "service", "shared", "session", "storage",
        "jwt", "webhook", "deploy",
    )
)  # fmt: skip
_THREE = [sorted({word[at] for word in _squeezed(*_KINDS, "key")}) for at in (-3, -2, -1)]
# One test after another that is as quick to fail as can be: `re` takes long over alternatives.
_NAMED = re.compile(
    (
        ":(?<=" + "".join(f"[{''.join(letters)}]" for letters in _THREE) + ":)(?:"
        + "|".join(f"(?<={word}:)(?P<{kind}>)"
                   for kind, word in zip(_KINDS, _squeezed(*_KINDS), strict=True))
        + f"|(?<=key:)(?:{'|'.join(f'(?<={word}:)' for word in _squeezed(*_KEYS))})(?P<key>))"
    ).encode()
)  # fmt: skip
_WORD = "[a-z]{{0,40}}?(?:{})".format("|".join(
    _squeezed("token", "passw", "secret", "key", "pwd", "credential", "auth", "user", "cookie")
))  # fmt: skip
# Bearer, Basic, and the beginning of a key of AWS.
_SENT = re.compile(
    b"k[aei][as](?:(?<=kea)rer(?P<bearer>)|(?<=kas)ic(?P<basic>)|(?<=akia)(?P<broken>))"
)
# export, setx, ENV and setenv
_SETTING = re.compile(
    f"v(?<=[ent]v)(?:port{_WORD}(?P<export>)|(?<=env){_WORD}(?P<env>)|(?<=setv){_WORD}(?P<setx>))".encode()
)
# In the text itself, since a dash tells nothing without the blanks around it.
_OPTION = re.compile(rb"-(?:-[A-Za-z]|[ub][ =\"'A-Za-z0-9])")

# -- what such a place looks like in the text itself, in small letters

_VALUE = (
    r"[a-z0-9_.-]{0,24}[\\\"'`\]]{0,40}[ \t]{0,8}"
    r"(?:=>|:=|=[ \t]?[^\s{=]|:[\s\\rnt]{0,40}[0-9]{0,20}[^\s{0-9,}\]]"
    r"|(?<=[\"'`]),\s{0,8}b?[\\\"']|(?<=[\"'`])[ \t],\s{0,8}b?[\\\"'])"
)
_SPACE = r"(?:\s|\\[nrt])+"
_SET = r"[ \t]+[a-z0-9_.-]{0,40}(?:token|passw|secret|key|pwd|credential|auth|cookie)"
_INDEED = {
    kind: re.compile(form.encode())
    for kind, form in {
        "key": "key" + _VALUE,
        "token": "k(?<=tok)en" + _VALUE,
        "cookie": "k(?<=cook)ie" + _VALUE,
        "password": f"w(?<=passw)ord{_VALUE}",
        "passwd": f"w(?<=passw)d{_VALUE}",
        "broken": r"k(?<=ak)ia[a-z0-9]{0,15}\\n ",  # too short for a run on either line
        "pwd": f"w(?<=pw)d{_VALUE}",
        "authorization": "z(?<=authoriz)ation" + _VALUE,
        "bearer": r"b(?=earer)earer(?:[ \t+]|%20)+[a-z0-9+/._~-]{16}",
        "basic": r"b(?=asic)asic[ \t]+[a-z0-9+/]{8}",
        "secret": "c(?<=sec)ret" + _VALUE,
        "credentials": "c(?=redentials)" + _VALUE.replace("{0,24}", "{0,40}", 1),
        "credential": "c(?=redential)" + _VALUE.replace("{0,24}", "{0,40}", 1),
        "auth": "u(?<=au)th" + _VALUE,
        "passphrase": "p(?<=passp)hrase" + _VALUE,
        "export": f"x(?<=ex)port{_SET}",
        "setx": f"x(?<=setx){_SET}",
        "env": f"v(?<=env){_SET}",
    }.items()
}
_OPTION_INDEED = re.compile(
    rb"-(?:-[a-z0-9_.-]{0,60}?"
    rb"(?:(?:token|passw|secret|key|pwd|credential|auth|cookie)[a-z0-9_.-]{0,30}[ =\t]|user)"
    rb"|(?<=[^a-z0-9_-]-)[ub](?:[ =\"']|[a-z0-9_.-]*:))"
)
_LOGIN = re.compile(rf"g(?<=log)in{_SPACE}[^\s\"]{{1,99}}?{_SPACE}password[ \t]".encode())
# Of what has a long run in it.
_HOOK = re.compile(rb"/(?:services|workflows|triggers|webhooks|hooks/catch)/|webhookb2/")
_HOST = re.compile(rb"@(?=[A-Za-z0-9_\[%.-])")
_PASSWORD = re.compile(rb"://[^\s/?#\"'<>@:\\]{0,256}:[^\s/?\"'<>\\]{1,256}\Z")
_LONGEST_URL = 600


def may_hold_credential(data: bytes) -> bool:
    """Whether one of `credentials` may stand in a text in UTF-8, or in JSON made of it, but for
    those whose value is long (`may_be_sent`).

    It may say yes where there is none, never no where there is one.
    """
    squeezed = data.translate(_SQUEEZED, _DROPPED)
    return (
        (_named(squeezed) is not None and _is_indeed(data, squeezed, _NAMED))
        or (_sent(squeezed) is not None and _is_indeed(data, squeezed, _SENT))
        or (_setting(squeezed) is not None and _is_indeed(data, squeezed, _SETTING))
        or (b"login" in squeezed and _LOGIN.search(data.lower()) is not None)
        or (
            b"-" in data
            and _OPTION.search(data) is not None
            and _OPTION_INDEED.search(data.lower()) is not None
        )
        or (b"@" in data and _is_password_in_url(data))
    )


def may_hold_long_credential(data: bytes, runs: bytes) -> bool:
    """The same of those whose value is long: private keys and secret URLs. runs: those of the text
    that are long enough for a key."""
    return b"PRIVATE KEY" in data or _HOOK.search(runs) is not None


_named, _sent, _setting = _NAMED.search, _SENT.search, _SETTING.search


def _is_indeed(data: bytes, squeezed: bytes, places: re.Pattern[bytes]) -> bool:
    lower = data.lower()
    kinds = {place.lastgroup for place in places.finditer(squeezed)}
    return any(_INDEED[str(kind)].search(lower) is not None for kind in kinds)


def _is_password_in_url(data: bytes) -> bool:
    return any(
        _PASSWORD.search(data, max(0, found.start() - _LONGEST_URL), found.start()) is not None
        for found in _HOST.finditer(data)
    )
