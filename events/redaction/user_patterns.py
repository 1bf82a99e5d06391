"""Patterns for texts that a user wants to be removed from payloads.

EMAIL, CARD and BEARER are ready to use. A pattern of your own is a name and a regular expression:

    LogStore(backend, redact=[EMAIL, CARD, Pattern("ticket", r"TICKET-[0-9]{6}")])

The secrets that are always removed are those of `cut_text`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from lllm.events.errors import ConfigError

_SECRET = "secret"  # if a regular expression has a group of this name, only the group is replaced
_NAME = re.compile(r"[a-z0-9][a-z0-9 ._-]*")


@dataclass(frozen=True)
class Pattern:
    """One kind of text to remove from payloads, recognised by a regular expression.

    Attributes:
        name: The name in marks and counts, as in `[redacted: NAME]`; of small letters, digits,
            space, and `._-`.
        regex: A regular expression of Python's `re`, searched in every text. If it has a group
            named `secret`, only the group is replaced, and the rest of the match only serves to
            find it.
        check: A function that gets the matched text and returns False to keep it; None to replace
            every match.
        needs: A text that every match contains. Texts without it are skipped fast; "" to search all
            texts.

    Raises:
        ConfigError: The name or the regex is invalid, or the regex matches the empty text.
    """

    name: str
    regex: str
    check: Callable[[str], bool] | None = None
    needs: str = ""
    _compiled: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ConfigError(
                f"A Pattern's name consists of small letters, digits, space and '._-', unlike "
                f"{self.name!r}."
            )
        if not isinstance(self.regex, str):
            raise ConfigError(f"Pattern {self.name!r} needs its regex as a str: {self.regex!r}")
        try:
            compiled = re.compile(self.regex)
        except re.error as error:
            raise ConfigError(f"Pattern {self.name!r}: {self.regex!r} is wrong: {error}") from error
        if compiled.search("") is not None:
            raise ConfigError(f"Pattern {self.name!r} fits the empty text, so it fits everywhere.")
        object.__setattr__(self, "_compiled", compiled)

    @property
    def mark(self) -> str:
        """The mark that replaces a match."""
        return f"[redacted: {self.name}]"

    @property
    def has_surroundings(self) -> bool:
        """True if the pattern also looks at the text around a match."""
        return _SECRET in self._compiled.groupindex

    def cut(self, text: str, found: Counter[str], *, behind: int = 0) -> str:
        """Replace every match in a text by the mark.

        Args:
            text: The text to search.
            found: A counter of the marks, by the name of their pattern; it is increased.
            behind: The index from which text may be replaced; the text before it is only looked at.

        Returns:
            The text with marks.
        """

        def marked(match: re.Match[str]) -> str:
            start, end = self._span(match)
            secret = text[start:end]
            if not secret or start < behind or (self.check and not self.check(secret)):
                return match[0]
            found[self.name] += 1
            return text[match.start() : start] + self.mark + text[end : match.end()]

        if self.needs not in text:
            return text
        return self._compiled.sub(marked, text)

    def is_all(self, text: str) -> bool:
        """True if the whole text is one match.

        Args:
            text: The text to check.

        Returns:
            False if anything stands before or after the match.
        """
        match = self._compiled.fullmatch(text)
        if match is None or self._span(match) != match.span():
            return False
        return self.check is None or bool(self.check(text))

    def _span(self, match: re.Match[str]) -> tuple[int, int]:
        if self.has_surroundings and match.start(_SECRET) >= 0:
            return match.span(_SECRET)
        return match.span()


# A key begins after any character that is no letter or digit, and after an escape: texts contain
# JSON, reprs, URLs and terminal colours, in which `\n`, `\x1b`, `\u00e9`, `%3D` and `[0m` end with
# a letter or digit.
_ESCAPES = (
    r"\\[abefnrtv0]", r"\\x[0-9a-fA-F]{2}", r"\\u[0-9a-fA-F]{4}", r"%[0-9a-fA-F]{2}", r"[\d;\[]m",
)  # fmt: skip


def _begun(prefix: str) -> str:
    """Make a pattern for a prefix that checks that a key begins with it.

    `re` is fast if an expression begins with literal text, so the prefix comes first.
    """
    escaped = "|".join(f"(?<={escape}{prefix})" for escape in _ESCAPES)
    return f"(?:(?<![A-Za-z0-9]{prefix})|{escaped})"


# The header of RFC 6750 section 2.1 (its b64token; without a digit it would be a word), and JSON
# Web Tokens (RFC 7519 section 3: base64url that begins with `{"`) anywhere. The first characters
# are a set, as are those of CARD, because `re` searches a set fast.
BEARER = Pattern(
    "bearer-token",
    r"[Bbe](?:(?<=[Bb])(?i:earer)[ \t]{1,8}"
    r"(?P<secret>(?=[A-Za-z._~+/-]{0,512}[0-9])[A-Za-z0-9._~+/-]{16,}={0,2})"
    rf"|yJ{_begun('eyJ')}[A-Za-z0-9_-]{{8,}}\.eyJ[A-Za-z0-9_-]{{8,}}\.[A-Za-z0-9_-]{{16,}})",
)

# The addresses of RFC 5321 section 4.1.2 that providers assign: no quoted names, no IP addresses.
# The lengths are from section 4.5.3.1 and from RFC 1035 section 2.3.4.
EMAIL = Pattern(
    "email",
    r"(?:(?<![A-Za-z0-9._%+\\-])|(?<=\\[abefnrtv0])|(?<=\\u[0-9a-fA-F]{4}))"
    r"[A-Za-z0-9_][A-Za-z0-9._%+-]{0,63}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}"
    r"[A-Za-z]{2,24}(?![A-Za-z0-9-])",
    needs="@",
)


def _is_luhn(text: str) -> bool:
    """True if the Luhn check digit is correct (ISO/IEC 7812-1 annex B)."""
    digits = [int(character) for character in reversed(text) if character in "0123456789"]
    doubled = sum(sum(divmod(2 * digit, 10)) for digit in digits[1::2])
    return (sum(digits[::2]) + doubled) % 10 == 0


# ISO/IEC 7812-1: 13 to 19 digits; the first ones identify the issuer (2 to 6, and the networks that
# begin with 81, 82 and 9792). Without blanks, or as printed: in fours, as 4-6-4 or as 4-6-5.
CARD = Pattern(
    "card",
    r"[2-689]" + _begun("[2-689]") + r"(?<![0-9][ -][2-689])(?<![0-9]\.[2-689])"
    r"(?:(?<=[2-6])|(?<=8)(?=[12])|(?<=9)(?=792))"
    r"(?:[0-9]{12,18}"
    r"|[0-9]{3}([ -])[0-9]{4}\1[0-9]{4}\1(?:[0-9]{1,4}|[0-9]{4}\1[0-9]{1,3})"
    r"|(?<=3)[0-9]{3}([ -])[0-9]{6}\2[0-9]{4,5})"
    r"(?![0-9A-Za-z_])(?![ -][0-9])(?!\.[0-9])",
    _is_luhn,
)
