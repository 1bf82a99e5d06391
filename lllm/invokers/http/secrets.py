"""Holds credentials, and removes them from texts."""

from __future__ import annotations

import json
import re
from operator import is_not

MARK = "[api key]"
# a short key such as "ollama" or "EMPTY" is not secret, and may be an ordinary word
_SHORTEST_SECRET = 8
# "Bearer" and "Basic" are ordinary words, too, so what follows must be long and have a digit.
_LOOKS_SECRET = re.compile(
    r"(?i:\b(?:bearer|basic)\s+)(?:\[api key\]|(?=[^\s\"',;]*\d)[^\s\"',;]{8,})"
    r"|\bsk-[\w*.…-]{6,}"
)


class Secret:
    """A text that no repr shows, such as an API key."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return "<secret>"

    def fits_a_header(self) -> bool:
        """True if the secret can be sent as a token of an Authorization header."""
        return self.text.isascii() and self.text.isprintable() and " " not in self.text


class Secrets:
    """Removes a set of secret texts from messages and errors.

    Args:
        *texts: Keys, tokens and passwords; None and texts that are too short are ignored.
    """

    def __init__(self, *texts: str | None) -> None:
        known = {text for text in texts if text and len(text) >= _SHORTEST_SECRET}
        known |= {json.dumps(text)[1:-1] for text in known}
        # The longest first, so that a secret that is part of another leaves no remainder of it.
        self._texts = sorted(known, key=len, reverse=True)

    def __repr__(self) -> str:
        return "Secrets()"

    def cut(self, text: str) -> str:
        """Remove exactly these secrets from a model's text."""
        for secret in self._texts:
            text = text.replace(secret, MARK)
        return text

    def cut_values(self, value: object) -> object:
        """Remove these secrets from all texts and keys in a JSON value.

        Args:
            value: The JSON value.

        Returns:
            A copy; the same value if it has no secret, so that a long one is not copied.
        """
        if isinstance(value, str):
            return self.cut(value)
        if isinstance(value, list):
            items = [self.cut_values(item) for item in value]
            return items if any(map(is_not, items, value)) else value
        if isinstance(value, dict):
            members = {self.cut(name): self.cut_values(item) for name, item in value.items()}
            return members if any(map(is_not, members.values(), value.values())) or any(
                map(is_not, members, value)) else value  # fmt: skip
        return value

    def cut_error(self, text: str) -> str:
        """Remove these secrets, and anything that looks like a credential, from an error's text.

        That includes keys that OpenAI quotes with asterisks in the middle.
        """
        return _LOOKS_SECRET.sub(MARK, self.cut(text))
