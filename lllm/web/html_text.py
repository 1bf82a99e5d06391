"""Converts texts from a log to safe HTML, in which only Markdown can add markup.

Characters that hide text or reverse its direction are shown as escapes, as on a terminal (see
`lllm.terminal_safe`). Markdown is rendered without raw HTML, without images, because a browser
would load them, and with links to http, https and mailto only.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from lllm.terminal_safe import UNSAFE, visible

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.renderer import RendererHTML
    from markdown_it.token import Token
    from markdown_it.utils import EnvType, OptionsDict

_LINK = re.compile(r"(?:https?://|mailto:)", re.IGNORECASE)
_FIELD = re.compile(r"""[{,]\s*"((?:[^"\\]|\\.)*)"\s*:\s*("(?:[^"\\]|\\.)*"?|[^",{}\[\]]+)""")
MOST_MARKDOWN = 50_000  # characters; longer texts are shown as they are


def readable(text: str) -> str:
    """Replace hidden characters in a text by escapes; line ends and tabs stay.

    Args:
        text: Any text; it may come from anybody.

    Returns:
        A text in which every character is visible and in its place.
    """
    return UNSAFE.sub(_shown, text.replace("\r\n", "\n"))


def _shown(match: re.Match[str]) -> str:
    return match[0] if match[0] in "\n\t" else match[0].encode("unicode_escape").decode()


def markdown(text: str) -> Markup:
    """Render a text as Markdown.

    Args:
        text: Any text, in Markdown or not; it may come from anybody.

    Returns:
        Safe HTML. A text of more than 50,000 characters is not rendered, but shown as it is.
    """
    if len(text) > MOST_MARKDOWN:
        return plain(text)
    return Markup(_markdown().render(readable(text)))  # it escapes


def plain(text: str) -> Markup:
    """Convert a text to HTML that shows it as it is, with its line ends and spaces."""
    return Markup('<pre class="text">') + escape(readable(text)) + Markup("</pre>")


def code_spans(text: str) -> Markup:
    """Convert a line of lllm's own words to HTML: what stands between backticks is code.

    Args:
        text: One line; it may contain names that come from anybody.
    """
    parts = visible(text).split("`")
    if len(parts) % 2 == 0:  # a backtick is left over: all of them are plain
        return escape(visible(text))
    wrapped = (
        Markup("<code>{}</code>").format(part) if place % 2 else escape(part)
        for place, part in enumerate(parts)
    )
    return Markup("").join(wrapped)


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
    """Render the beginning of a link, which opens in a new tab without sending a referrer."""
    del env
    tokens[index].attrSet("rel", "noreferrer noopener nofollow")
    tokens[index].attrSet("target", "_blank")
    return renderer.renderToken(tokens, index, options, {})


def _may_link(url: str) -> bool:
    return _LINK.match(url) is not None


def pretty_json(value: object) -> str:
    """Format a value as indented JSON; a text that contains JSON is formatted like its value.

    Args:
        value: A value of JSON, or a text.

    Returns:
        The indented JSON; a text that is not JSON is returned unchanged.
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
    """Shorten a task for a list: the fields of a JSON object are shown without quotes and braces.

    Args:
        task: The first line of the task; if the task is an object or list, its JSON, which may be
            cut.

    Returns:
        One line, for example "order: A-17 · text: Where is my kettle?".
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
    """Format a time as shortly as possible: "14:02", "yesterday 14:02", "12 Nov 14:02".

    Args:
        moment: The time to format.
        zone: The time zone in which to show it.
        now: The present time.

    Returns:
        The text. It contains the year if that is not the present year.
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


def weekday(day: str) -> str:
    """Name the day of the week in three letters, as "Tue".

    Args:
        day: The day, YYYY-MM-DD.
    """
    return f"{dt.date.fromisoformat(day):%a}"
