"""Shows the messages and tools that a captured call sent and received."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from rich.text import Text
from rich.tree import Tree

from lllm.cli.render import formats
from lllm.cli.render.console import labelled
from lllm.events.model import Content, ToolCall
from lllm.projections.session.call_session import InvokeTrace
from lllm.projections.session.exchanges import SentAndGot
from lllm.terminal_safe import visible

_LONG = 240  # characters shown of a message
_SHORT = 80  # of arguments and results
_MOST = 20  # messages of one request


def add_exchange(node: Tree, trace: InvokeTrace, exchange: SentAndGot) -> None:
    """Add messages and tools below an attempt.

    Args:
        node: The attempt's node of the tree.
        trace: The attempt.
        exchange: The messages that it sent and received.
    """
    for content in exchange.sent[:_MOST]:
        for line in _message_lines(content, content.role):
            node.add(line)
    if len(exchange.sent) > _MOST:
        node.add(Text(f"… {formats.counted(len(exchange.sent) - _MOST, 'message')} more", "dim"))
    answer = trace.content
    if answer is None:
        return
    for line in _message_lines(answer, "answer" if trace.error is None else "begun"):
        node.add(line)
    results = exchange.results + (None,) * len(answer.tool_calls)
    for call, result in zip(answer.tool_calls, results, strict=False):
        node.add(_tool_line(call, result))


def _message_lines(content: Content, label: str) -> Iterator[Text]:
    """Format a message as lines: its text, and its other parts."""
    if content.text:
        yield labelled(label, formats.shortened(content.text, _LONG))
    others = [part for part in content.parts if part.kind != "text"]
    for part in others:
        if part.text:
            yield labelled(part.kind, formats.shortened(part.text, _LONG))
    kinds = Counter(part.kind for part in others if not part.text)
    if kinds:
        counted = (f"{number:,} {visible(kind)}" for kind, number in kinds.items())
        yield labelled(label, Text(f"({', '.join(counted)})", "dim"))


def _tool_line(call: ToolCall, result: Content | None) -> Text:
    line = Text.assemble(
        ("tool ", "dim"), (visible(call.name), "magenta"),
        f" {formats.shortened(call.arguments, _SHORT)}",
    )  # fmt: skip
    if result is not None:
        line.append(" → ", "dim").append(formats.shortened(result.text, _SHORT))
    return line
