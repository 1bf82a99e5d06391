"""Turns psycopg's errors into those of lllm."""

from __future__ import annotations

import psycopg
from psycopg import errors

from lllm.events.errors import LogError, LogUnavailable, ViewError
from lllm.projections.database import DuplicateRow, NoSuchTable


def translated(error: psycopg.Error, shown: str) -> Exception:
    """Make lllm's error for one of psycopg.

    Args:
        error: The error.
        shown: What messages call the database, without a password.

    Returns:
        The error to raise instead.
    """
    what = str(error).strip().partition("\n")[0] or type(error).__name__
    if isinstance(error, errors.UniqueViolation):
        return DuplicateRow(what)
    if isinstance(error, errors.UndefinedTable | errors.UndefinedColumn):
        return NoSuchTable(f"{shown}: {what}.")
    if isinstance(error, errors.NumericValueOutOfRange):
        return OverflowError(what)
    if isinstance(error, errors.DatatypeMismatch | errors.InvalidTextRepresentation):
        return ViewError(
            f"A view gives a column a value that its type does not allow, which SQLite ignores and "
            f"PostgreSQL does not: {what}."
        )
    if isinstance(error, errors.InsufficientPrivilege):
        return LogUnavailable(
            f"{shown}: {what}. The role may not do this with the rows; grant it what is missing, "
            "or connect as the owner of the schema."
        )
    if isinstance(error, errors.LockNotAvailable):
        return LogUnavailable(f"{shown}: another session keeps a table of the rows locked: {what}.")
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return LogUnavailable(f"{shown}: {what}.")
    return LogError(f"{shown}: {what}.")
