"""Distinguishes random texts, such as secrets, from words, placeholders and masks."""

from __future__ import annotations

import re

_LONGEST_WORDS = 200  # the most characters of a placeholder, or of words that are no secret
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")


def is_words(body: str) -> bool:
    """True if a text is made of words, like an identifier, and not of random characters.

    An example is `explainable_intelligence_v2`.

    Args:
        body: The text after a key's prefix.

    Returns:
        True for words.
    """
    found: list[str] = _WORD.findall(body)
    words = [word for word in found if not word.isdigit()]
    if not words or any(len(word) > 20 and not _is_readable(word) for word in words):
        return False
    numbers = len(found) - len(words)
    return sum(map(len, words)) >= 3.2 * len(words) and 3 * numbers <= len(words) + 1


def _is_readable(word: str) -> bool:
    """True if a long word may be several words joined: it has as many vowels as words have."""
    letters = word.lower()
    return sum(map(letters.count, "aeiou")) >= 0.28 * len(word) and len(set(letters)) > 5


def is_masked(body: str) -> bool:
    """True if a text is a masked key: `xxxxxxxx`, `XXXX-XXXX`, `********`.

    Args:
        body: The text after a key's prefix.

    Returns:
        True for a mask.
    """
    return not set(body) - set("xX*.-_0")


_STAND_IN = re.compile(
    r"""[<{$%\[(].*|.*(?:\.\.\.|…|<[A-Za-z_ -]+>|\$\{|\{\{|\*\*\*).*
    |(?:your|my|the|some|insert|enter|replace|dummy|fake|sample|example|placeholder)(?:[_ -].*)?
    |.*(?:your|example|placeholder|change_?me|redacted|hidden|insert)[_ -].*
    |.*[_ -](?:here|example|placeholder)
    |(?:os\.|process\.|env\.|ENV|getenv|settings\.|config\.|self\.|secrets\.|vars\.|args\.).*
    |none|null|nil|true|false|undefined|string|str|bytes|int|optional|required|redacted|hidden
    |empty|todo|tbd|example|change_?me|test|testing|secret|password|passwd|pass|token|key|api_?key
    |user|username|admin|root|unset|missing|invalid|n/a""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)


def is_stand_in(value: str) -> bool:
    """True if a value is a placeholder for a secret, such as `<your password>` or `$TOKEN`.

    Args:
        value: The value that is assigned to a name.

    Returns:
        True for a placeholder.
    """
    return is_masked(value) or (
        len(value) <= _LONGEST_WORDS and _STAND_IN.fullmatch(value) is not None
    )


_PHRASE = re.compile(r"[^\W\d_]{1,15}(?:[ _.,:;/!?=-]+[^\W\d_]{1,15})*[ _.,:;/!?=-]*[0-9]{0,2}")
_LETTERS = re.compile(r"[A-Za-z_.-]+|[A-Za-z0-9]+(?:[_.-][A-Za-z0-9]+){2,}")


def is_plain_words(value: str) -> bool:
    """True if a value is a name or phrase: letters, separators, and a last digit or two.

    Args:
        value: The value that is assigned to a name.

    Returns:
        True for a name or phrase.
    """
    if len(value) > _LONGEST_WORDS:
        return False
    return _PHRASE.fullmatch(value) is not None or (
        _LETTERS.fullmatch(value) is not None and is_words(value)
    )


def is_random(value: str, least: int) -> bool:
    """True if a value has letters and digits, no spaces, and is not made of words.

    Args:
        value: The value that is assigned to a name.
        least: The smallest number of characters that it must have.

    Returns:
        True for a random value.
    """
    return (
        len(value) >= least
        and any(c.isdigit() for c in value)
        and any(c.isalpha() for c in value)
        and not any(c.isspace() for c in value)
        and not is_words(value)
    )
