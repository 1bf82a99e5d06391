"""Runs the web server on a loopback address until Ctrl-C."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from lllm.events.errors import ConfigError

if TYPE_CHECKING:
    from starlette.types import ASGIApp
    from uvicorn import Server

DEFAULT_PORT = 8321
_TRIED = 20  # ports, from the default one on


def listen(host: str, port: int | None) -> socket.socket:
    """Open the socket that the server listens on.

    Args:
        host: An address that only this machine can reach: "127.0.0.1", "::1" or "localhost".
        port: The port; None for the first free one from 8321 on, 0 for any free one.

    Returns:
        The socket, to be passed to the server from `make_server`.

    Raises:
        ConfigError: Other machines could reach the address, or the port is in use.
    """
    if host not in ("127.0.0.1", "::1", "localhost"):
        raise ConfigError(
            f"lllm web listens on this machine only; {host!r} is none of 127.0.0.1, ::1 and "
            "localhost. To look from elsewhere, forward the port: ssh -L 8321:127.0.0.1:8321 HOST"
        )
    family = socket.AF_INET6 if host == "::1" else socket.AF_INET
    candidates = range(DEFAULT_PORT, DEFAULT_PORT + _TRIED) if port is None else (port,)
    for candidate in candidates:
        # asyncio switches the delay of small packets (40 ms) off only where the protocol is named
        sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, candidate))
            sock.listen(128)
        except OSError as error:
            sock.close()
            reason = error.strerror
        else:
            return sock
    raise ConfigError(
        f"Port {candidates[0]} of {host} can't be listened on ({reason}); choose another with "
        "--port, or 0 for any that is free."
    )


def make_server(app: ASGIApp) -> Server:
    """Make the server of an application; `run(sockets=[...])` serves until it is stopped.

    Args:
        app: The application that answers the requests.

    Returns:
        A server of uvicorn. Setting its `should_exit` to True stops it.
    """
    from uvicorn import Config, Server

    return Server(
        Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            lifespan="off",
            timeout_graceful_shutdown=1,  # seconds; open tabs follow the log without end
        )
    )
