"""What may stand between a client and a PostgreSQL server: a silent network, a pooler."""

from __future__ import annotations

import selectors
import socket
import struct
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

from tests.support.postgres import Server

_PORT = 5432
_READY = b"Z\0\0\0\5I"  # the end of an answer, where no transaction is open


class Proxy:
    """Hands bytes to a server and back, on a Unix socket of its own.

    silent: nothing comes back any more. loses_answers: of how many of the next answers nothing
    comes back, and the connection ends. other_pid: the server seems to be another process, as
    behind a pooler. at_sending: is called with the process id of the server's process whenever a
    client sends something, before the server gets it; the server does not get it if it returns
    False.
    """

    def __init__(self, on: Server) -> None:
        self._server = on
        self._folder = tempfile.TemporaryDirectory(prefix="lllm-proxy-")
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(f"{self._folder.name}/.s.PGSQL.{_PORT}")
        self._listening.listen()
        self.silent = threading.Event()
        self.loses_answers = 0
        self.other_pid = False
        self.connections = 0
        self.at_sending: Callable[[int], bool] | None = None
        self._backends: dict[socket.socket, int] = {}  # by the socket of the client
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._listening.close()
        self._folder.cleanup()

    def url(self, schema: str) -> str:
        """The URL of a log in a schema of the server."""
        host = quote(self._folder.name, safe="")
        return f"postgresql://postgres@{host}:{_PORT}/postgres?schema={schema}"

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listening, selectors.EVENT_READ)
            ends: dict[socket.socket, socket.socket] = {}
            clients: set[socket.socket] = set()
            while not self._ended.is_set():
                for key, _ in selector.select(0.02):
                    at = key.fileobj
                    assert isinstance(at, socket.socket)
                    if at is self._listening:
                        client, server = at.accept()[0], socket.socket(socket.AF_UNIX)
                        try:
                            server.connect(str(Path(self._server.folder) / f".s.PGSQL.{_PORT}"))
                        except OSError:
                            client.close()
                            server.close()
                            continue
                        self.connections += 1
                        ends |= {client: server, server: client}
                        clients.add(client)
                        for one in (client, server):
                            selector.register(one, selectors.EVENT_READ)
                    elif at in ends and not self._passes(at, ends[at], at in clients):
                        for one in (at, ends[at]):
                            selector.unregister(one)
                            ends.pop(one)
                            clients.discard(one)
                            self._backends.pop(one, None)
                            one.close()
            for one in ends:
                one.close()

    def _passes(self, at: socket.socket, to: socket.socket, from_client: bool) -> bool:
        """Hand on what has come; False if the connection ends."""
        try:
            data = at.recv(1 << 16)
            if not data:
                return False
            if not from_client:
                if self.silent.is_set():
                    return True
                if self.loses_answers and b"D\0" in data and data.endswith(_READY):
                    self.loses_answers -= 1
                    return False
                data = self._as_pooler(data, to)
            elif self.at_sending and not self.at_sending(self._backends.get(at, 0)):
                return False
            to.sendall(data)
        except OSError:
            return False
        return True

    def _as_pooler(self, data: bytes, client: socket.socket) -> bytes:
        begin = -1 if client in self._backends else data.find(b"K\0\0\0\x0c")
        if begin < 0:
            return data
        [pid] = struct.unpack_from("!i", data, begin + 5)
        self._backends[client] = pid
        if not self.other_pid:
            return data
        return data[: begin + 5] + struct.pack("!i", pid + 1) + data[begin + 9 :]
