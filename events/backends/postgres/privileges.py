"""Tells whether the role that lllm connects as may call a function of the log's schema."""

from __future__ import annotations

from lllm.events.backends.postgres.connection import Statement
from lllm.events.backends.postgres.read_events import Ask


class FunctionPrivilege:
    """The right to call one function.

    Args:
        schema: The name of the schema, quoted.
        name: The name of the function.
        types: The types of its arguments, as "bigint[],bytea[]".
        ask: Executes a statement on any connection.
    """

    def __init__(self, schema: str, name: str, types: str, ask: Ask) -> None:
        self._name = name
        self._ask = ask
        signature = f"{schema}.{name}({types})".replace("'", "''")
        self._allowed = Statement(
            f"SELECT has_function_privilege(to_regprocedure('{signature}'), 'EXECUTE')"
        )

    def refusal(self) -> str | None:
        """Say why the function can't be called with this role in these tables; None if it can.

        Raises:
            LogUnavailable: The server can't be reached.
        """
        allowed = self._ask(self._allowed, ()).get_value(0, 0)
        if allowed is None:
            return (
                "its tables were made by an earlier lllm. `lllm schema --postgres` prints what the "
                "owner of the schema runs to bring them up to date."
            )
        if allowed != b"\x01":
            return f"the role that lllm connects as has no EXECUTE on the function `{self._name}`."
        return None
