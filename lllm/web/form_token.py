"""Makes the hidden fields of forms.

The token keeps other sites' pages from making a browser send a form.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets

from lllm.projections.session.annotations import Annotation


class FormToken:
    """The secret of the forms of one run of the server."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)

    def of(self, about: str) -> str:
        """Make the token of the forms that write to a session, or of those of a page.

        Args:
            about: The whole id of the session, or the address of the page.
        """
        return hmac.new(self._secret, about.encode(), hashlib.sha256).hexdigest()


def note_key(note: Annotation) -> str:
    """Write name and author of a note in ASCII, as a form sends them back unchanged.

    Args:
        note: The note.
    """
    return json.dumps([note.name, note.by])
