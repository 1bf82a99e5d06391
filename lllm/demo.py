"""The support desk that `lllm demo` runs; its tactics are examples to copy.

In `answer_ticket`, one agent sorts a ticket and another writes the answer with the help of two
tools; a second tactic proofreads it. `SCRIPT` has the answers of the embedded model. They make
everything happen once: a tool that raises, an answer that does not parse, a 429, a failed session.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from lllm import LogStore, Prompt, Tactic, tool
from lllm.agents.config import Config
from lllm.invokers import Invoker
from lllm.invokers.scripted import Script, ScriptedInvoker, rate_limited, tool_call, tool_calls

MODEL = "gpt-4o-mini"  # the model whose list prices apply to the embedded model

# -- the tactics


class Ticket(msgspec.Struct):
    """A customer's message."""

    order: str
    text: str


class Topic(msgspec.Struct):
    """The subject of a ticket."""

    topic: Literal["delivery", "bill", "other"]
    urgent: bool


ORDERS = {
    "A-17": {"item": "kettle", "sent": "2026-03-02", "paid": "39.00"},
    "A-18": {"item": "teapot", "sent": "2026-03-04", "paid": "24.50"},
    "B-04": {"item": "two mugs", "sent": "2026-02-27", "paid": "18.00"},
}


@tool(description="What was ordered under a number, when it was sent, and what was paid.")
def find_order(order: str) -> dict[str, str]:
    """Look up the order's record."""
    return ORDERS[order]


@tool(description="Where the parcel of an order is now, as the carrier says.")
def track_parcel(order: str) -> str:
    """Always raise an error, to show how a failing tool is recorded."""
    raise TimeoutError(f"The carrier did not answer within 5 s when asked for {order}.")


SORT = Prompt(
    "support/sort",
    "Sort this ticket: is it about a delivery, a bill or something else, and is it urgent? "
    'Answer as JSON, like {{"topic": "bill", "urgent": false}}.\n\n{text}',
    format=Topic,
)
WRITE = Prompt(
    "support/write",
    "Answer this ticket about the order {order} in three sentences. Look the order up; where it is "
    "about a delivery, track the parcel too. If a tool fails, say that we are looking into it.\n\n"
    "{text}",
    tools=[find_order, track_parcel],
)


class Proofread(Tactic):
    """Corrects the mistakes in a draft."""

    name = "proofread"
    agent_group = ("editor",)

    def call(self, task: object, **_: object) -> object:
        """Correct the mistakes in a draft."""
        editor = self.agents["editor"]
        editor.open()
        editor.receive(str(task))
        return editor.respond().content


class AnswerTicket(Tactic):
    """Answers a ticket, given as a dict; returns its topic and the answer to send."""

    name = "answer_ticket"
    agent_group = ("sorter", "writer")

    def __init__(self, config: Config | None = None, *, log_store: LogStore | None = None) -> None:
        super().__init__(config, log_store=log_store)
        self.proofread = Proofread(config)  # its sessions are children of this tactic's

    def call(self, task: object, **_: object) -> object:
        """Classify a ticket and answer it.

        Raises:
            LookupError: The order does not exist.
        """
        ticket = msgspec.convert(task, Ticket)

        sorter = self.agents["sorter"]
        sorter.open()
        sorter.receive_prompt(SORT, {"text": ticket.text})
        topic = msgspec.convert(sorter.respond().parsed, Topic)

        if ticket.order not in ORDERS:
            raise LookupError(f"There is no order {ticket.order!r}.")

        writer = self.agents["writer"]
        writer.open()
        writer.receive_prompt(WRITE, {"order": ticket.order, "text": ticket.text})
        draft = writer.respond().content
        return {"topic": topic.topic, "answer": self.proofread(draft)}


def config(invoker: Invoker, model: str, *, manner: str = "briefly") -> Config:
    """Make the configuration of the agents, which all use one model.

    Args:
        invoker: The invoker that calls the model.
        model: The name of the model.
        manner: The manner in which the writer answers, a word of its prompt.

    Returns:
        The configuration for both tactics.
    """
    return {
        "global": {"invoker": invoker, "model_name": model},
        "agent_configs": [
            {"name": "sorter", "system_prompt": "You sort the support tickets of a small shop."},
            {"name": "writer", "system_prompt": f"You answer customers, warmly and {manner}."},
            {"name": "editor", "system_prompt": "Correct the spelling; return the text alone."},
        ],
    }


def replayed_desk() -> AnswerTicket:
    """Make the tactic for `lllm replay --using lllm.demo:replayed_desk`; no model is called.

    Returns:
        The tactic as it was recorded.
    """
    return AnswerTicket(config(ScriptedInvoker([]), MODEL))


def formal_desk() -> AnswerTicket:
    """Make the desk with one word changed in a prompt, so that a replay finds the difference.

    Returns:
        The tactic with the word "formally" in place of "briefly".
    """
    return AnswerTicket(config(ScriptedInvoker([]), MODEL, manner="formally"))


# -- what happens in the demo

TICKETS: tuple[tuple[dict[str, str], dict[str, str]], ...] = (
    (
        {"order": "A-17", "text": "Where is my kettle? I have guests on Friday!"},
        {"customer": "alice", "channel": "mail"},
    ),
    (
        {"order": "B-04", "text": "You charged my card twice for the mugs."},
        {"customer": "bob", "channel": "chat"},
    ),
    (
        {"order": "A-18", "text": "Does the teapot come with a strainer?"},
        {"customer": "alice", "channel": "chat"},
    ),
    (
        {"order": "Z-99", "text": "My parcel never came."},
        {"customer": "carol", "channel": "mail"},
    ),
)

SCRIPT: Script = {
    "sorter": [
        "This is about a delivery, and it is urgent.",  # not JSON, so the agent asks again
        '{"topic": "delivery", "urgent": true}',
        '{"topic": "bill", "urgent": true}',
        '{"topic": "other", "urgent": false}',
        '{"topic": "delivery", "urgent": false}',
    ],
    "writer": [
        tool_calls(
            tool_call("find_order", {"order": "A-17"}), tool_call("track_parcel", {"order": "A-17"})
        ),
        rate_limited(retry_after=0.05),
        "Your kettle was sent on 2 March. The carrier does not tell us where it is just now, and "
        "we are looking into it. You wil hear from us before Friday.",
        tool_call("find_order", {"order": "B-04"}),
        "We have found a single payment of 18.00 for the mugs. A second one may be a reservation, "
        "which your bank lifts in a few days. If it does not, write to us agian.",
        "Yes, a strainer of steel comes with the teapot. It sits in the lid. Enjoy your tea!",
    ],
    "editor": [
        "Your kettle was sent on 2 March. The carrier does not tell us where it is just now, and "
        "we are looking into it. You will hear from us before Friday.",
        "We have found a single payment of 18.00 for the mugs. A second one may be a reservation, "
        "which your bank lifts in a few days. If it does not, write to us again.",
        "Yes, a strainer of steel comes with the teapot. It sits in the lid. Enjoy your tea!",
    ],
}
