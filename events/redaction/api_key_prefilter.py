"""Checks fast if a payload may contain an API key of a known issuer.

For nearly every text the answer is no, and then none of the slow expressions of `api_key_formats`
is tried.

A run is an unbroken sequence of characters that keys can consist of.
"""

from __future__ import annotations

import re
from functools import cache

from lllm.events.redaction.api_key_formats import each_prefix

_DOTTED = re.compile(
    rb"\.(?:(?<=[bcmoprstG0-9Q]\.)(?:(?<=ya29\.)|(?<=AQ\.)|(?<=hv[sbr]\.)|(?<=SG\.)|(?<=dp\.[pcs]t\.)"
    rb"|(?<=dp\.scim\.)|(?<=dp\.audit\.)|(?<=dt0[cs][0-9]{2}\.)|(?<=[ps]at\.))"
    rb"|atlasv1|(?<=pat[A-Za-z0-9]{14}\.)[0-9a-f]{64}"
    rb"|(?<=[MNO][A-Za-z0-9_-]{23}\.)[A-Za-z0-9_-]{6}\.|(?<=[A-Za-z0-9_-]{24}\.)[A-Za-z0-9_-]{6}\.)"
)


def may_begin(runs: bytes) -> bool:
    """True if the long runs of a text may contain an issuer's key or a JSON Web Token.

    Args:
        runs: The long runs of the text, joined.

    Returns:
        False if they contain neither.
    """
    return (
        (45 in runs and _dashed(b"-").search(runs) is not None)  # "-"
        or (95 in runs and _dashed(b"_").search(runs) is not None)  # "_"
        or _may_be_bare(runs)
    )


# The capital letters that begin a prefix without a final `-` or `_`; all become one byte.
_FIRST = b"ASGELJ"
_MERGED = bytes(65 if c in _FIRST else c for c in range(256))


@cache
def _merged_bare() -> re.Pattern[bytes]:
    begun = {
        prefix.encode().translate(_MERGED)[1:].decode() for _, prefix, _, _ in each_prefix()
        if len(prefix) > 3 and prefix[-1] not in "-_.~" and prefix[0].encode() in _FIRST
    }  # fmt: skip
    return re.compile(f"A(?:{'|'.join(sorted(begun))}|K[0-9abcdef]{{32}})".encode())  # SK


def _may_be_bare(runs: bytes) -> bool:
    search = _merged_bare().search
    merged = runs.translate(_MERGED)
    found = search(merged)
    while found is not None:
        if _bare().match(runs, found.start()) is not None:
            return True
        found = search(merged, found.start() + 1)
    return _begins_otherwise(runs) and _bare().search(runs) is not None


def _begins_otherwise(runs: bytes) -> bool:
    """True if a prefix of another form may be in the text.

    Some prefixes contain a rare sign; they are searched only if the text contains it.
    """
    find = runs.find
    return (
        find(b"oy2") >= 0 or find(b"dapi") >= 0 or find(b"cmVmd") >= 0 or find(b"ops_eyJ") >= 0
        or (45 in runs and (find(b"-us") >= 0 or find(b"pypi-AgE") >= 0))  # "-"
        or (47 in runs and find(b"1//0") >= 0)  # "/"
        or (58 in runs and find(b":AA") >= 0)  # ":"
        or (126 in runs and (find(b"Q~") >= 0 or find(b"sha256~") >= 0))  # "~"
        or (46 in runs and (_TOKEN_HEAD.search(runs) or _DOTTED.search(runs)) is not None)  # "."
    )  # fmt: skip


# The beginnings of JSON Web Tokens, whose first part ends in a dot.
_TOKEN_HEAD = re.compile(b"e(?:yJ|yA|wo|w0)")


@cache
def _dashed(last: bytes) -> re.Pattern[bytes]:
    """Make an expression for prefixes that end in the same byte.

    `re` is fast if an expression begins with a single byte, so the prefixes are matched from their
    end.
    """
    groups: dict[str, dict[str, list[str]]] = {}
    for _, prefix, asked, _ in each_prefix():
        if prefix.encode().endswith(last):
            rest = asked.removesuffix("(?![_-])")  # the key may continue on the next line
            groups.setdefault(prefix[-2], {}).setdefault(rest, []).append(re.escape(prefix))
    sign = last.decode()
    ends = "|".join(
        f"(?<={re.escape(letter)}{sign})(?:"
        + "|".join(
            f"(?:{'|'.join(f'(?<={prefix})' for prefix in prefixes)}){rest}"
            for rest, prefixes in rests.items()
        )
        + ")"
        for letter, rests in sorted(groups.items())
    )
    letters = re.escape("".join(sorted(groups)))
    return re.compile(f"{sign}(?<=[{letters}]{sign})(?=[^\\n]{{8}})(?:{ends})".encode())


@cache
def _bare() -> re.Pattern[bytes]:
    """Make an expression for prefixes that end neither in `-` nor `_`, and for JSON Web Tokens."""
    return re.compile(
        "|".join(
            [
                re.escape(prefix) + rest.removesuffix("(?![_-])")
                if len(prefix) > 1
                else f"[{prefix}]" + rest
                for _, prefix, rest, _ in each_prefix()
                if prefix[-1] not in "-_"
            ]
            + ["e(?:yJ|yA|wo|w0)[A-Za-z0-9_-]{8,4096}\\.[A-Za-z0-9_-]{8}"]
        ).encode()
    )
