"""Patterns for what a user wants to be cut out of payloads.

EMAIL, CARD and BEARER are ready for those who want them, and a Pattern of one's own is a name and a
regular expression:

    LogStore(backend, redact=[EMAIL, CARD, Pattern("ticket", r"TICKET-[0-9]{6}")])

What is cut without being asked for stands in `cut_text`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from lllm.events.errors import ConfigError

_SECRET = "secret"  # the group that is cut, where a regular expression has one of that name
_NAME = re.compile(r"[a-z0-9][a-z0-9 ._-]*")


@dataclass(frozen=True)
class Pattern:
    """One kind of text to cut out, recognised by a regular expression.

    Attributes:
        name: Stands in the marks and the counts, as `[redacted: NAME]`; small letters, digits,
            space, and `._-`.
        regex: Of Python's `re`, searched in every text. A group named `secret` says that only it is
            cut, and what is around it is only how to find it.
        check: Called with what would be cut; False keeps it.
        needs: What every such secret holds. A text without it is not searched, which takes no time.

    Raises:
        ConfigError: The name or regex can't be, or the regex fits the empty text.
    """

    name: str
    regex: str
    check: Callable[[str], bool] | None = None
    needs: str = ""
    _compiled: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ConfigError(
                f"A Pattern's name is of small letters, digits, space and '._-', not {self.name!r}."
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
        """The text that replaces a secret."""
        return f"[redacted: {self.name}]"

    @property
    def has_surroundings(self) -> bool:
        """True if the pattern looks at the text around a secret."""
        return _SECRET in self._compiled.groupindex

    def cut(self, text: str, found: Counter[str], *, behind: int = 0) -> str:
        """Replace every secret in a text by the mark.

        Args:
            text: Any.
            found: Counts the marks by the name of their pattern.
            behind: Where the part begins that may be cut; what stands before it is only looked at.
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
        """True if a text consists of a secret and nothing else.

        Args:
            text: Any.
        """
        match = self._compiled.fullmatch(text)
        if match is None or self._span(match) != match.span():
            return False
        return self.check is None or bool(self.check(text))

    def _span(self, match: re.Match[str]) -> tuple[int, int]:
        if self.has_surroundings and match.start(_SECRET) >= 0:
            return match.span(_SECRET)
        return match.span()


# A key begins behind anything but a letter or digit, and behind an escape: texts hold JSON, reprs,
# URLs and terminal colours, in which `\n`, `\x1b`, `\u00e9`, `%3D` and `[0m` end with one.
_ESCAPES = (
    r"\\[abefnrtv0]", r"\\x[0-9a-fA-F]{2}", r"\\u[0-9a-fA-F]{4}", r"%[0-9a-fA-F]{2}", r"[\d;\[]m",
)  # fmt: skip


def _begun(prefix: str) -> str:
    """A pattern that checks, after a prefix, that a key begins with it.

    `re` finds a literal fast, so the prefix comes first.
    """
    escaped = "|".join(f"(?<={escape}{prefix})" for escape in _ESCAPES)
    return f"(?:(?<![A-Za-z0-9]{prefix})|{escaped})"


# The header of RFC 6750 section 2.1 (its b64token, with a digit in it, else it is a word), and JSON
# Web Tokens (RFC 7519 section 3: base64url, which begins with `{"`) wherever they stand. Its first
# characters are a set, and so are those of CARD, because `re` finds one of a set fast.
BEARER = Pattern(
    "bearer-token",
    r"[Bbe](?:(?<=[Bb])(?i:earer)[ \t]{1,8}"
    r"(?P<secret>(?=[A-Za-z._~+/-]{0,512}[0-9])[A-Za-z0-9._~+/-]{16,}={0,2})"
    rf"|yJ{_begun('eyJ')}[A-Za-z0-9_-]{{8,}}\.eyJ[A-Za-z0-9_-]{{8,}}\.[A-Za-z0-9_-]{{16,}})",
)

# Of RFC 5321 section 4.1.2 what providers give out: no quoted names, no addresses of numbers. The
# lengths are of section 4.5.3.1 and of RFC 1035 section 2.3.4.
EMAIL = Pattern(
    "email",
    r"(?:(?<![A-Za-z0-9._%+\\-])|(?<=\\[abefnrtv0])|(?<=\\u[0-9a-fA-F]{4}))"
    r"[A-Za-z0-9_][A-Za-z0-9._%+-]{0,63}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}"
    r"[A-Za-z]{2,24}(?![A-Za-z0-9-])",
    needs="@",
)


def _is_luhn(text: str) -> bool:
    """True if the Luhn check digit fits (ISO/IEC 7812-1 annex B)."""
    digits = [int(character) for character in reversed(text) if character in "0123456789"]
    doubled = sum(sum(divmod(2 * digit, 10)) for digit in digits[1::2])
    return (sum(digits[::2]) + doubled) % 10 == 0


# ISO/IEC 7812-1: 13 to 19 digits, whose first say who issues them (2 to 6, and the networks that
# begin with 81, 82 and 9792). In one, or as they are printed: in fours, as 4-6-4 or as 4-6-5.
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
