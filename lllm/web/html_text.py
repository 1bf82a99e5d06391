"""Turns texts of a log into HTML in which nothing of them is markup, unless Markdown says so.

Characters that hide text or turn it around are shown as escapes, as on a terminal; see
`lllm.terminal_safe`. Markdown is rendered without raw HTML, without images, whose addresses a
browser would ask, and with links to http, https and mailto only.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from lllm.terminal_safe import UNSAFE

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.renderer import RendererHTML
    from markdown_it.token import Token
    from markdown_it.utils import EnvType, OptionsDict

_LINK = re.compile(r"(?:https?://|mailto:)", re.IGNORECASE)
_FIELD = re.compile(r"""[{,]\s*"((?:[^"\\]|\\.)*)"\s*:\s*("(?:[^"\\]|\\.)*"?|[^",{}\[\]]+)""")
MOST_MARKDOWN = 50_000  # characters; longer texts are shown as they are


def readable(text: str) -> str:
    """Show what is hidden in a text of several lines; line ends and tabs stay.

    Args:
        text: Anybody's.

    Returns:
        The text, in which every character is seen, and stands where it is.
    """
    return UNSAFE.sub(_shown, text.replace("\r\n", "\n"))


def _shown(match: re.Match[str]) -> str:
    return match[0] if match[0] in "\n\t" else match[0].encode("unicode_escape").decode()


def markdown(text: str) -> Markup:
    """Render a text as Markdown.

    Args:
        text: Anybody's, in Markdown or not.

    Returns:
        Safe HTML; a text beyond 50,000 characters stands there as it is.
    """
    if len(text) > MOST_MARKDOWN:
        return plain(text)
    return Markup(_markdown().render(readable(text)))  # it escapes


def plain(text: str) -> Markup:
    """Show a text as it is, with its line ends and blanks."""
    return Markup('<pre class="text">') + escape(readable(text)) + Markup("</pre>")


@cache
def _markdown() -> MarkdownIt:
    from markdown_it import MarkdownIt

    made = MarkdownIt("commonmark", {"html": False, "breaks": True, "maxNesting": 40})
    made.enable(["table", "strikethrough"]).disable(["image", "html_inline", "html_block"])
    made.validateLink = _may_link  # type: ignore[method-assign]
    made.add_render_rule("link_open", _open_link)
    return made


def _open_link(
    renderer: RendererHTML,
    tokens: Sequence[Token],
    index: int,
    options: OptionsDict,
    env: EnvType,
) -> str:
    """Render the begin of a link, which opens in a tab of its own and is told no address."""
    del env
    tokens[index].attrSet("rel", "noreferrer noopener nofollow")
    tokens[index].attrSet("target", "_blank")
    return renderer.renderToken(tokens, index, options, {})


def _may_link(url: str) -> bool:
    return _LINK.match(url) is not None


def pretty_json(value: object) -> str:
    """Format a value as indented JSON; a text that holds JSON counts as its value.

    Args:
        value: A value of JSON, or a text.

    Returns:
        The JSON, or the text where it is none.
    """
    if isinstance(value, str):
        text = value
        if text.lstrip()[:1] not in ("{", "["):
            return text
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return text
    try:
        return json.dumps(value, ensure_ascii=False, indent=2, default=str)
    except (ValueError, RecursionError):
        return str(value)


def task_line(task: str) -> str:
    """Format the first line of a task for a list: fields of an object without quotes and braces.

    Args:
        task: A line of text; of an object or list, its JSON, which may be cut.

    Returns:
        One line: "order: A-17 · text: Where is my kettle?".
    """
    if not task.startswith("{"):
        return task
    found = _FIELD.findall(task)
    if not found:
        return task
    fields = [(name, _unquoted(value)) for name, value in found]
    return " · ".join(f"{name}: {value}" if len(fields) > 1 else value for name, value in fields)


def _unquoted(value: str) -> str:
    if not value.startswith('"'):
        return value
    try:
        return str(json.loads(value if len(value) > 1 and value.endswith('"') else value + '"'))
    except ValueError:
        return value[1:]


def day_and_time(moment: dt.datetime, zone: dt.tzinfo, now: dt.datetime) -> str:
    """Format a time as short as it is clear: "14:02", "yesterday 14:02", "12 Nov 14:02".

    Args:
        moment: The time.
        zone: The zone to show it in.
        now: The present.

    Returns:
        The text; the year stands in it where it is another one.
    """
    local, today = moment.astimezone(zone), now.astimezone(zone)
    days = (today.date() - local.date()).days
    clock = f"{local:%H:%M}"
    if days == 0:
        return clock
    if days == 1:
        return f"yesterday {clock}"
    if local.year == today.year:
        return f"{local.day} {local:%b} {clock}"
    return f"{local:%Y-%m-%d} {clock}"
