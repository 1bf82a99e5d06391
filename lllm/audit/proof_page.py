"""Makes a page that shows a proof, and checks it in a browser without any request.

The page's policy (https://www.w3.org/TR/CSP3/) allows only the one script and the one style in it,
which it names by their digests, and no loading at all. Texts of a log are data in the page, never
HTML.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from lllm.audit.base64_text import encoded
from lllm.audit.proof import Proof

_FOLDER = Path(__file__).parent


def proof_page(proof: Proof) -> str:
    """Make the page of a proof.

    Args:
        proof: The proof to show.

    Returns:
        The HTML. It is also a proof file: `parse_proof` reads it.
    """
    template, style, script = (
        (_FOLDER / f"proof_page.{ending}").read_text(encoding="utf-8")
        for ending in ("html", "css", "js")
    )
    # A script element ends at "</script". JSON can write these characters as escapes.
    escaped = proof.text()
    for character in "<>&\u2028\u2029":
        escaped = escaped.replace(character, f"\\u{ord(character):04x}")
    policy = (
        f"default-src 'none'; script-src {_source(script)}; style-src {_source(style)}; "
        "base-uri 'none'; form-action 'none'"
    )
    parts = {"POLICY": policy, "STYLE": style, "SCRIPT": script, "PROOF": escaped}
    before, *rest = template.split("%")
    page = [before]
    for name, between in zip(rest[::2], rest[1::2], strict=True):
        page += [parts[name], between]
    return "".join(page)


def _source(content: str) -> str:
    """Name a script or style by its digest, as the page's policy needs it."""
    return f"'sha256-{encoded(sha256(content.encode()).digest())}'"
