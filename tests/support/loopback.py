"""A provider on this machine: an HTTP server that answers as its script says.

    with Loopback() as server:
        server.answers(text("Hello."), failure(429, headers={"Retry-After": "2"}))
        OpenAIInvoker(base_url=server.url, api_key="...").invoke(request)
        assert server.requests[0].body["model"] == "gpt-4o-mini"

The replies are given in order; the last one again and again. Everything that a test wants to see
broken can be broken: statuses, bodies, JSON, connections. What is here speaks Chat Completions, in
one piece; streams and other dialects are in the modules beside this one.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

JSON = dict[str, Any]  # what a test wrote or asserts on, key by key

USAGE: JSON = {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25}


@dataclass(frozen=True)
class Received:
    """One request as it came in; header names in lower case."""

    path: str
    headers: Mapping[str, str]
    body: JSON


@dataclass(frozen=True)
class Reply:
    """One answer.

    pieces: a body that comes piece by piece, instead of `body`; an event among them is waited for
    before the next one is sent. end: how the connection ends ("cut": in the middle of the body;
    "hang": never, until the server is closed; "drop": before anything is sent).
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    end: Literal["whole", "cut", "hang", "drop"] = "whole"
    pieces: Iterable[bytes | threading.Event] | None = None


def completion(message: JSON, *, finish: str | None = "stop", **fields: Any) -> Reply:
    """A chat completion. fields: what of its body is to be otherwise (usage, model, ...)."""
    choice = {"index": 0, "message": {"role": "assistant"} | message, "finish_reason": finish}
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [choice],
        "usage": USAGE,
        "service_tier": "default",
        "system_fingerprint": "fp_1",
    }
    return Reply(body=json.dumps(body | fields).encode(), headers={"x-request-id": "req_1"})


def text(content: str, **fields: Any) -> Reply:
    """A plain answer."""
    return completion({"content": content, "refusal": None}, **fields)


def tool_calls(*calls: tuple[str, str], **fields: Any) -> Reply:
    """A wish to run tools: pairs of a name and the text of the arguments, valid JSON or not."""
    wishes = [
        {"id": f"call_{number}", "type": "function", "function": {"name": n, "arguments": a}}
        for number, (n, a) in enumerate(calls, 1)
    ]
    message = {"content": None, "tool_calls": wishes}
    return completion(message, finish="tool_calls", **fields)


def embeddings(*vectors: list[float], tokens: int = 4) -> Reply:
    """Embeddings, one for each text."""
    body = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": vector}
            for index, vector in enumerate(vectors)
        ],
        "model": "text-embedding-3-small",
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    return Reply(body=json.dumps(body).encode(), headers={"x-request-id": "req_1"})


def failure(
    status: int,
    message: str = "It went wrong.",
    *,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """An error in the form that OpenAI gives them."""
    error = {"message": message, "type": "error", "param": None, "code": code}
    sent = {"x-request-id": "req_1"} | dict(headers or {})
    return Reply(status, json.dumps({"error": error}).encode(), sent)


def cut() -> Reply:
    """A good answer whose connection ends in the middle of the body."""
    return Reply(body=text("Never read to its end.").body, end="cut")


def hang() -> Reply:
    """No answer at all."""
    return Reply(end="hang")


def drop() -> Reply:
    """A connection that ends before the answer begins."""
    return Reply(end="drop")


def echoing_key(received: Received) -> Reply:
    """A 401 that quotes the credentials it was sent, in its message, code and headers."""
    sent = received.headers["authorization"]
    key = sent.partition(" ")[2]
    message = f"Incorrect API key provided: {key}. You sent: {sent}."
    return failure(401, message, code=f"bad {key}", headers={"x-request-id": f"req_{key}"})


Script = Reply | Callable[[Received], Reply]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are kept, as with the real ones
    disable_nagle_algorithm = True  # or each answer waits 40 ms for an acknowledgement
    server: _Server

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length", 0))
        body = json.loads(self.rfile.read(length) or b"{}")
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = self.server.owner.next(Received(self.path, headers, body))
        self.close_connection = reply.end != "whole"
        if reply.pieces is not None:
            self._head(reply, "text/event-stream", ("Transfer-Encoding", "chunked"))
            self._pieces(reply.pieces)
            self.wfile.write(b"0\r\n\r\n" if reply.end == "whole" else b"")
        elif reply.end in ("whole", "cut"):
            self._head(reply, "application/json", ("Content-Length", str(len(reply.body))))
            half = len(reply.body) // 2 if reply.end == "cut" else None
            self.wfile.write(reply.body[:half])
        if reply.end == "hang":
            self.server.owner.closing.wait()

    def _head(self, reply: Reply, kind: str, length: tuple[str, str]) -> None:
        self.send_response(reply.status)
        for name, value in ({"Content-Type": kind} | dict([length]) | dict(reply.headers)).items():
            self.send_header(name, value)
        self.end_headers()

    def _pieces(self, pieces: Iterable[bytes | threading.Event]) -> None:
        for piece in pieces:
            if isinstance(piece, bytes):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                continue
            while not piece.wait(0.01) and not self.server.owner.closing.is_set():
                pass

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:
            self.close_connection = True  # the client went away, as after its timeout
            self.server.owner.left.set()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that server_close waits for them
    request_queue_size = 128

    def __init__(self, owner: Loopback) -> None:
        self.owner = owner
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """End the connections that wait for another request."""
        with self._lock:
            for connection in self._open:
                with suppress(OSError):  # the other end was faster
                    connection.shutdown(socket.SHUT_RDWR)


class Loopback:
    """The server, in a thread of its own, from `with` to its end.

    url: the base URL for a client. requests: what came in, in order. left: set when a client went
    away before it had its answer.
    """

    def __init__(self) -> None:
        self.requests: list[Received] = []
        self.closing = threading.Event()
        self.left = threading.Event()
        self._replies: list[Script] = [text("Hello.")]
        self._lock = threading.Lock()
        self._server = _Server(self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, name="loopback"
        )
        self.port: int = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Loopback:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.hang_up()
        self._server.server_close()

    def answers(self, *replies: Script) -> None:
        """What to answer from now on; a function gets the request and returns the reply."""
        with self._lock:
            self._replies = list(replies)

    def next(self, received: Received) -> Reply:
        """Record a request and decide what it gets."""
        with self._lock:
            self.requests.append(received)
            reply = self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]
        return reply(received) if callable(reply) else reply
