"""Makes a page that shows a proof, and checks it in a browser without any request.

The page's policy (https://www.w3.org/TR/CSP3/) lets it run the one script and use the one style in
it, known by their digests, and load nothing at all. A text of a log is data in it, never HTML.
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
        proof: The proof.

    Returns:
        The HTML, which is a proof file, too: `parse_proof` reads it.
    """
    template, style, script = (
        (_FOLDER / f"proof_page.{ending}").read_text(encoding="utf-8")
        for ending in ("html", "css", "js")
    )
    # JSON in a script element ends where "</script" begins; no JSON needs these characters plain.
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
    """Name the one script or style that a policy allows."""
    return f"'sha256-{encoded(sha256(content.encode()).digest())}'"
