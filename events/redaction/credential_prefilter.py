"""Checks fast if a text may contain one of the named credentials or credential formats.

The check runs for every event, so it uses operations that are fast in Python. One `translate`
reduces a text to little more than small letters and the signs between a name and its value; a few
searches for single bytes then find all places where a credential may be. Most texts have no such
place. Otherwise the text itself is searched with one expression after another.

`re` finds an expression that begins with a single byte thirty times as fast as one that begins with
a set, so each expression begins with a byte and looks back from it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# Characters within a name, or between a name and its value. Blanks occur there, too, but texts are
# full of them, and a `translate` that removes every fifth byte takes four times as long.
_DROPPED = b"0123456789\"'`\\]_.-"
# All joiners become one byte, and so do rare letters: one search finds them all.
_SAME = {"=": ":", ",": ":", "b": "k", "x": "v", "\t": " "}


def _table() -> bytes:
    table = bytearray(bytes(range(256)).lower())
    for was, now in _SAME.items():
        table[ord(was)] = table[ord(was.upper())] = ord(now)
    return bytes(table)


_SQUEEZED = _table()
_MOST_BLANKS = 8  # between a name and its joiner


def _squeezed(word: str) -> str:
    return word.encode().translate(_SQUEEZED).decode()


_KINDS = (
    "authorization", "cookie", "auth", "secret", "password", "passwd", "passphrase", "pwd",
    "token", "credential", "credentials",
)  # fmt: skip
_KEYS = (
    "api", "api ", "access", "secret", "private", "account", "subscription", "auth", "signing",
    "encryption", "master", "admin", "client", "app", "service", "shared", "session", "storage",
    "jwt", "webhook", "deploy",
)  # fmt: skip


def _named_backwards() -> re.Pattern[bytes]:
    """A pattern for reversed text: a separator, then the end of a secret's name.

    `re` is slow with alternatives, so two letters are checked before them.
    """
    names = {word: _squeezed(word)[::-1] for word in (*_KINDS, "key")}
    first, second = ("".join(sorted({name[at] for name in names.values()})) for at in (0, 1))
    kinds = "|".join(f"{names[kind]}(?P<{kind}>)" for kind in _KINDS)
    keys = "|".join(_squeezed(word)[::-1] for word in _KEYS)
    return re.compile(
        f": {{0,{_MOST_BLANKS}}}+(?=[{first}][{second}])"
        f"(?:{kinds}|{names['key']}(?:{keys})(?P<key>))".encode()
    )


_NAMED = _named_backwards()
# Bearer, Basic, and the beginning of an AWS key.
_SENT = re.compile(rb"k(?:earer[ +%](?P<bearer>)|asic (?P<basic>)|ia(?<=akia)(?P<broken>))")
# export, setx, ENV and setenv, followed by a name.
_WORD = " *(?:api )?[a-z]{{0,40}}?(?:{})".format("|".join(map(_squeezed, (
    "token", "passw", "passphrase", "secret", "key", "pwd", "credential", "auth", "cookie",
))))  # fmt: skip
_SETTING = re.compile(
    rf"v[ p](?:(?<=vp)ort {_WORD}(?P<export>)|(?<=env ){_WORD}(?P<env>)"
    rf"|(?<=setv ){_WORD}(?P<setx>))".encode()
)
# Searched in the text itself: a dash means nothing without the blanks around it.
_OPTION = re.compile(rb"-(?:-[A-Za-z]|[ub][ =\"'A-Za-z0-9])")

# -- The same places in the text itself, in small letters

_VALUE = (
    r"[a-z0-9_.-]{0,24}[\\\"'`\]]{0,40}[ \t]{0,8}"
    r"(?:=>|:=|=[ \t]?[^\s{=]|:[\s\\rnt]{0,40}[0-9]{0,20}[^\s{0-9,}\]]"
    r"|(?<=[\"'`]),\s{0,8}b?[\\\"']|(?<=[\"'`])[ \t],\s{0,8}b?[\\\"'])"
)
_SPACE = r"(?:\s|\\[nrt])+"
_SET = (
    r"[ \t]+(?:api )?[a-z0-9_.-]{0,40}?"
    r"(?:token|passw|passphrase|secret|key|pwd|credential|auth|cookie)"
    r"[a-z0-9_.-]{0,64}[\\\"'`\]]{0,40}[ \t]"
)
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
        "bearer": r"bearer(?:[ \t+]|%20)+[a-z0-9+/._~-]{16}",
        "basic": r"basic[ \t]+[a-z0-9+/]{8}",
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
    rb"(?:(?:token|passw|passphrase|secret|key|pwd|credential|auth|cookie)"
    rb"[a-z0-9_.-]{0,30}[ =\t]|user)"
    rb"|(?<=[^a-z0-9_-]-)[ub](?:[ =\"']|[a-z0-9_.-]*:))"
)
_LOGIN = re.compile(rf"g(?<=log)in{_SPACE}[^\s\"]{{1,99}}?{_SPACE}password[ \t]".encode())
# Credentials that contain a long run.
_HOOK = re.compile(rb"/(?:services|workflows|triggers|webhooks|hooks/catch)/|webhookb2/")
_HOST = re.compile(rb"@(?=[A-Za-z0-9_\[%.-])")
_PASSWORD = re.compile(rb"://[^\s/?#\"'<>@:\\]{0,256}:[^\s/?\"'<>\\]{1,256}\Z")
_LONGEST_URL = 600


def may_hold_credential(data: bytes) -> bool:
    """True if a text may contain a credential that has no long value.

    It may return True for a text without one, but never False for a text with one. Credentials with
    a long value are found by `may_hold_long_credential`.

    Args:
        data: The text in UTF-8, or its JSON.

    Returns:
        False if the text contains no such credential.
    """
    squeezed = data.translate(_SQUEEZED, _DROPPED)
    backwards = squeezed[::-1]
    return (
        (_named(backwards) is not None and _is_indeed(data, _NAMED.finditer(backwards)))
        or (_sent(squeezed) is not None and _is_indeed(data, _SENT.finditer(squeezed)))
        or (_setting(squeezed) is not None and _is_indeed(data, _SETTING.finditer(squeezed)))
        or (
            squeezed.find(b"passw") >= 0
            and data.find(b"login") >= 0
            and _LOGIN.search(data.lower()) is not None
        )
        or (
            45 in data  # "-"
            and _option(data) is not None
            and _OPTION_INDEED.search(data.lower()) is not None
        )
        or (64 in data and _is_password_in_url(data))  # "@"
    )


def may_hold_long_credential(data: bytes, runs: bytes) -> bool:
    """True if a text may contain a private key or a secret URL, which are long.

    Args:
        data: The text in UTF-8, or its JSON.
        runs: The sequences of key characters in the text that are long enough for a key, joined.

    Returns:
        False if the text contains none.
    """
    return data.find(b"PRIVATE KEY") >= 0 or (47 in runs and _HOOK.search(runs) is not None)  # "/"


_named, _sent, _setting, _option = _NAMED.search, _SENT.search, _SETTING.search, _OPTION.search


def _is_indeed(data: bytes, places: Iterator[re.Match[bytes]]) -> bool:
    lower = data.lower()
    kinds = {place.lastgroup for place in places}
    return any(_INDEED[str(kind)].search(lower) is not None for kind in kinds)


def _is_password_in_url(data: bytes) -> bool:
    return any(
        _PASSWORD.search(data, max(0, found.start() - _LONGEST_URL), found.start()) is not None
        for found in _HOST.finditer(data)
    )
