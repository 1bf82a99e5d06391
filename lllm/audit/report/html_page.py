"""Formats a document as one HTML page that loads nothing and runs no script.

The page's policy (https://www.w3.org/TR/CSP3/) allows only the one style in it.
"""

from __future__ import annotations

from hashlib import sha256
from html import escape

from lllm.audit.base64_text import encoded
from lllm.audit.report.document import Block, BulletList, Code, Document, Paragraph, SectionHeading
from lllm.terminal_safe import visible, visible_lines

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto;
  padding: 0 1rem; color: #1c1c1c; background: #fff; }
h2 { margin-top: 2.5rem; border-top: 2px solid #888; padding-top: 1rem; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0; }
th, td { text-align: left; vertical-align: top; padding: .25rem .5rem;
  border-top: 1px solid #ddd; overflow-wrap: anywhere; }
th { background: #f2f2f2; }
td, p, li { unicode-bidi: isolate; }
td:first-child { min-width: 5.5rem; }
pre { background: #f2f2f2; padding: .5rem; white-space: pre-wrap; overflow-wrap: anywhere; }
@media (prefers-color-scheme: dark) {
  body { color: #e6e6e6; background: #161616; }
  th, pre { background: #262626; }
  th, td { border-color: #444; }
}
@media print { body { max-width: none; margin: 0; } h2 { break-before: page; } }
"""


def html_page(document: Document) -> str:
    """Format a document as one HTML page.

    Args:
        document: The document; its first heading becomes the title.

    Returns:
        The HTML of the page.
    """
    title = next((block.text for block in document if isinstance(block, SectionHeading)), "")
    allowed = encoded(sha256(_STYLE.encode()).digest())
    policy = (
        f"default-src 'none'; style-src 'sha256-{allowed}'; base-uri 'none'; form-action 'none'"
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"{''.join(map(_block, document))}</body>\n</html>\n"
    )


def _text(text: str) -> str:
    return escape(visible(text))


def _block(block: Block) -> str:
    if isinstance(block, SectionHeading):
        return f"<h{block.level}>{_text(block.text)}</h{block.level}>\n"
    if isinstance(block, Paragraph):
        return f"<p>{_text(block.text)}</p>\n"
    if isinstance(block, BulletList):
        return f"<ul>\n{''.join(f'<li>{_text(text)}</li>' for text in block.texts)}\n</ul>\n"
    if isinstance(block, Code):
        return f"<pre>{escape(visible_lines(block.text))}</pre>\n"
    head = "".join(f"<th>{_text(name)}</th>" for name in block.columns)
    rows = "".join(
        f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>\n" for row in block.rows
    )
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n"
