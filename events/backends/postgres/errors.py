"""Makes errors of a PostgreSQL server into errors of lllm, which never contain a password."""

from __future__ import annotations

from lllm.events.errors import LogUnavailable

# Classes of SQLSTATEs (https://www.postgresql.org/docs/current/errcodes-appendix.html) after which
# the connection is closed, or can't be used: connection exceptions, and shutdowns.
_CONNECTION_ENDS = ("08", "57P")
_TRY_AGAIN = frozenset({"40001", "40P01"})  # a serialization failure, a deadlock
NO_PRIVILEGE = "42501"
UNDEFINED_TABLE = "42P01"


class ServerRefused(LogUnavailable):
    """The server refused a statement; the connection can still be used.

    Args:
        message: The text for users.
        sqlstate: The code of the error.
        detail: The server's details; "" if there are none.
    """

    def __init__(self, message: str, sqlstate: str = "", detail: str = "") -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.detail = detail

    def can_be_repeated(self) -> bool:
        """True if the same statement may succeed at once, because another one was in its way."""
        return self.sqlstate in _TRY_AGAIN


class ConnectionLost(LogUnavailable):
    """The connection ended in the middle of a statement, so what became of it is unknown."""


class ServerUnreachable(LogUnavailable):
    """No connection to the server can be made now."""


def connection_error(server: str, text: str) -> ServerUnreachable:
    """Make the error for a connection that can't be made.

    Args:
        server: The server's name, without a password.
        text: The message of libpq, which never contains the password.

    Returns:
        The error, to be raised by the caller.
    """
    return ServerUnreachable(f"{server} can't be reached. {_one_line(text)}")


def server_error(server: str, text: str, sqlstate: str, detail: str) -> LogUnavailable:
    """Make the error for a statement that the server refused.

    Args:
        server: The server's name, without a password.
        text: The server's message.
        sqlstate: The code of the error.
        detail: The server's details; "" if there are none.

    Returns:
        A ConnectionLost if the server ends the connection; otherwise a ServerRefused.
    """
    message = f"{server}: {_one_line(text)}"
    if sqlstate.startswith(_CONNECTION_ENDS):
        return ConnectionLost(message)
    if sqlstate == NO_PRIVILEGE:
        message += (
            ". The role that lllm connects as lacks a privilege; `lllm schema --postgres` prints "
            "what an administrator runs."
        )
    return ServerRefused(message, sqlstate, detail)


def _one_line(text: str) -> str:
    return " ".join(text.split())
