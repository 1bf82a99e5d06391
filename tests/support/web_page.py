"""A running web page of a store, and sessions to look at, with hostile texts among them."""

from __future__ import annotations

import html
import http.client
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lllm import LogStore, tool
from lllm.invokers.scripted import tool_call
from lllm.time_zones import zone_of
from lllm.web.app import make_app
from lllm.web.server import listen, make_server
from tests.support.runs import Doing, config

TOKEN = "the-token"
HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "</title></style></textarea></script><script>alert(1)</script>",
    "[click](javascript:alert(1)) ![see](http://192.0.2.1/x.png)",
    "<a href='javascript:alert(1)'>here</a>",
    "{{ 7 * 7 }} {% raw %} ${7*7}",
    "javascript:alert(1)",
    "x\u202egpj.exe\u2066 \x1b[31mred\x07",
)


@dataclass
class Served:
    """A page that answers on this machine."""

    store: LogStore
    port: int

    @property
    def address(self) -> str:
        """The address of the page, without its token."""
        return f"http://127.0.0.1:{self.port}"

    def get(
        self, path: str, *, headers: dict[str, str] | None = None, method: str = "GET"
    ) -> tuple[int, dict[str, str], str]:
        """The status, headers and text of an answer; with the token, unless headers are given."""
        if headers is None:
            headers = {"Authorization": f"Bearer {TOKEN}"}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            text = answer.read().decode()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, text
        finally:
            connection.close()


def posted(
    page: Served,
    path: str,
    body: str,
    kind: str = "application/x-www-form-urlencoded",
    **headers: str,
) -> tuple[int, dict[str, str], str]:
    """The status, headers and text of the answer to a POST."""
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=30)
    try:
        connection.request(
            "POST",
            path,
            body.encode(),
            {"Authorization": f"Bearer {TOKEN}", "Content-Type": kind, **headers},
        )
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()
    finally:
        connection.close()


def fields(text: str, nth: int = -1) -> tuple[str, dict[str, str]]:
    """The address and the hidden fields of a form for notes of a page."""
    address, inside = re.findall(
        r'<form method="post" action="([^"]+)">(.*?)</form>', text, re.DOTALL
    )[nth]
    found = re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', inside)
    return address, {name: html.unescape(value) for name, value in found}


@contextmanager
def served(
    store: LogStore, token: str | None = TOKEN, *, read_only: bool = False
) -> Iterator[Served]:
    """The page of a store, until the block ends."""
    with listen("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
        app = make_app(
            store, token=token, port=port, name="runs.db", zone=zone_of("UTC"), read_only=read_only
        )
        server = make_server(app)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
        thread.start()
        try:
            yield Served(store, port)
        finally:
            server.should_exit = True
            thread.join(30)


@tool(description="Looks an order up.")
def find_order(order: str) -> dict[str, str]:
    """The order's record."""
    if order == "Z-99":
        raise LookupError(f"No order {order} <b>here</b>.")
    return {"item": "kettle", "note": HOSTILE[0]}


def answer_with_tool(store: LogStore, order: str = "A-17", **tags: str) -> str:
    """A session in which a model asks for a tool, and then answers; its id."""
    script = [
        tool_call("find_order", {"order": order}),
        f"**The kettle** of {order} is on its way.",
    ]
    with store.session("shop::desk", task={"order": order, "text": "Where is it?"}, tags=tags):
        given = config(script, tools=[find_order])
        Doing(lambda one: ask(one, order), given, log_store=store)("desk")
    return store.list_sessions(limit=1)[0].session_id


def ask(one: Doing, order: str) -> object:
    """Ask the agent of a tactic where an order's kettle is."""
    agent = one.agents["a"]
    agent.open()
    agent.receive(f"Where is the kettle of {order}?")
    return agent.respond().content


def hostile_session(store: LogStore) -> str:
    """A session whose every text is hostile; its id."""
    text = "\n".join(HOSTILE)
    tags = {f"tag{number}{one[:4]}": one for number, one in enumerate(HOSTILE)}
    with store.session(
        f"evil::{HOSTILE[0]}", task=text, tags=tags, metadata={HOSTILE[1]: text}, partition=text
    ) as session:
        Doing(
            lambda one: ask(one, text),
            config([tool_call("<b>find</b>", {"a": text}), text]),
            log_store=store,
        )(text)
        session.deliver(text)
    found = store.list_sessions(limit=1)[0].session_id
    try:
        with store.session("evil::failing", task=text):
            raise ValueError(text)
    except ValueError:
        pass
    return found
