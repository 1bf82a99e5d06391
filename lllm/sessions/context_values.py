"""Sets a context variable for the duration of a `with`."""

from __future__ import annotations

from contextlib import AbstractContextManager, suppress
from contextvars import ContextVar, Token
from typing import Generic, TypeVar

T = TypeVar("T")


class _During(Generic[T]):
    """The context manager that `during` returns."""

    __slots__ = ("_before", "_is_set", "_token", "_value", "_variable")

    def __init__(self, variable: ContextVar[T], value: T) -> None:
        self._is_set = False
        self._variable = variable
        self._value = value
        self._token: Token[T] | None = None

    def __enter__(self) -> None:
        self._before = self._variable.get()
        self.__class__ = _Entered
        self._is_set = True
        self._token = self._variable.set(self._value)

    def __exit__(self, *_: object) -> None:
        if not self._is_set:
            return
        # A coroutine or generator that is garbage-collected may be closed in another context than
        # it ran
        # in; then there is nothing to reset. The same is true if it was reset already, but not
        # noted.
        with suppress(ValueError, LookupError, RuntimeError):
            if self._token is not None:
                self._variable.reset(self._token)
            elif self._variable.get() is self._value:  # an interrupt came while it was set
                self._variable.set(self._before)
        self._is_set = False
        self.__class__ = _During


class _Entered(_During[T]):
    """A `during` whose `with` is still open.

    If an interrupt prevents `__exit__` from resetting the variable, it is reset when nothing refers
    to this object any more, which is after the interrupt was handled.

    It is a class of its own so that no finalizer runs after a `with` that ended normally: an
    exception that a signal handler raises in a finalizer is lost.
    """

    __slots__ = ()

    def __del__(self) -> None:
        self.__exit__()


def during(variable: ContextVar[T], value: T) -> AbstractContextManager[None]:
    """Set a context variable inside a `with`.

    Args:
        variable: A variable that has a default.
        value: The value inside the `with`.

    Returns:
        The context manager.
    """
    return _During(variable, value)
