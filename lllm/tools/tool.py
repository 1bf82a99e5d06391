"""Makes a Python function a tool that a model may call.

The function's signature becomes the JSON schema that is sent to the model, and the arguments that
the model sends are checked against it (`lllm.tools.function_schema`). A tool runs in the same way
from plain code and on an event loop, whether it is a `def` or an `async def`.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Generic, Literal, ParamSpec, TypeVar, cast, overload

from lllm.events.errors import ConfigError
from lllm.events.model import ToolDefinition
from lllm.tools.event_loop import arun, run
from lllm.tools.function_schema import Arguments

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

# The strictest rule for names, which all providers accept: `tools[].function.name` in
# https://platform.openai.com/docs/api-reference/chat/create
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
InReplay = Literal["log", "run"]


class Tool(Generic[P, R_co]):
    """A function and its description for a model; calling the tool calls the function.

    Args:
        function: The function to call.
        name: The name that the model sees; the function's name by default.
        description: The description that the model sees; the first paragraph of the function's
            docstring by default.
        repeat: True to run the function again if the model repeats a call with the same arguments
            within one agent call, as for a tool that polls. Otherwise the model gets the first
            result again.
        replay: "log" to return the recorded result in a replay, "run" to run the function.

    Attributes:
        schema: The JSON schema of the arguments, an object.

    Raises:
        ConfigError: No model could call the function: providers refuse its name, it takes `*args`
            or `**kwargs`, or a hint can't be resolved or has no JSON form. Or `replay` is neither
            "log" nor "run".
    """

    def __init__(
        self,
        function: Callable[P, R_co],
        *,
        name: str | None = None,
        description: str | None = None,
        repeat: bool = False,
        replay: InReplay = "log",
    ) -> None:
        # separate, because mypy otherwise loses the signature
        is_class: bool = isinstance(function, type)
        if is_class or not callable(function):
            raise ConfigError(f"A tool is made from a function, not from {function!r}.")
        self.function = function
        self.name = _name(function) if name is None else name
        if not _NAME.fullmatch(self.name):
            raise ConfigError(
                f"The tool name {self.name!r} is not one that providers take: 1 to 64 of a-z, A-Z, "
                "0-9, _ and -. Give one with @tool(name=...)."
            )
        self.description = _first_paragraph(function) if description is None else description
        self.repeat = repeat
        if replay not in ("log", "run"):
            raise ConfigError(f'replay of a tool is "log" or "run", not {replay!r}.')
        self.replay: InReplay = replay
        self._arguments = Arguments(function, self.name)
        self.schema = self._arguments.schema
        self.__doc__ = function.__doc__
        self.__module__ = function.__module__
        self.__qualname__ = getattr(function, "__qualname__", self.name)
        self.__wrapped__ = function

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the function directly, as ordinary code does."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Tool {self.name}>"

    def __reduce__(self) -> str | tuple[object, ...]:
        # The decorated name refers to the tool, so pickle can't find the bare function by that
        # name. It
        # finds the tool instead, also in the process that unpickles.
        found: object = sys.modules.get(self.__module__)
        for step in self.__qualname__.split("."):
            found = getattr(found, step, None)
        if found is self:
            return self.__qualname__
        return _rebuild, (
            self.function, self.name, self.description, self.repeat, self.replay
        )  # fmt: skip

    @property
    def is_async(self) -> bool:
        """True if the function is an `async def`, or an object with an async `__call__`."""
        function = self.function
        return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004 - of an object that is called
        )

    @property
    def definition(self) -> ToolDefinition:
        """The description of the tool for the model."""
        return ToolDefinition(self.name, self.description, self.schema)

    def parse_arguments(self, text: str) -> dict[str, object]:
        """Parse and check the arguments that a model sent.

        Args:
            text: The arguments as JSON; empty text means no arguments.

        Returns:
            The arguments by name, in the types that the function takes, without those that the
            model omitted. Types are not converted into each other.

        Raises:
            ParseError: The arguments are wrong; the message tells the model what to correct.
        """
        return self._arguments.read(text)

    def run(self, arguments: Mapping[str, object]) -> object:
        """Call the function from synchronous code, and wait for its result.

        An `async def` runs on a new event loop; in another thread if this thread already runs a
        loop, as in a notebook.

        Args:
            arguments: The arguments by name, as `parse_arguments` returns them.

        Returns:
            The return value of the function.

        Raises:
            BaseException: The error of the function; a StopIteration becomes a RuntimeError.
        """
        return run(partial(self._call, arguments))

    async def arun(self, arguments: Mapping[str, object]) -> object:
        """Call the function from an event loop, and wait for its result.

        A function that is not async runs in a thread, so that it does not block the loop.

        Args:
            arguments: The arguments by name, as `parse_arguments` returns them.

        Returns:
            The return value of the function.

        Raises:
            BaseException: The error of the function; a StopIteration becomes a RuntimeError.
        """
        return await arun(partial(self._call, arguments), is_async=self.is_async)

    def _call(self, arguments: Mapping[str, object]) -> object:
        try:
            return cast(Callable[..., object], self.function)(**arguments)
        except StopIteration as error:
            # A future can't carry a StopIteration: before Python 3.12, awaiting it never ends.
            raise RuntimeError(f"The tool {self.name} raised StopIteration.") from error


@overload
def tool(function: Callable[P, R], /) -> Tool[P, R]: ...


@overload
def tool(
    *,
    description: str | None = None,
    name: str | None = None,
    repeat: bool = False,
    replay: InReplay = "log",
) -> Callable[[Callable[P, R]], Tool[P, R]]: ...


def tool(
    function: Callable[P, R] | None = None,
    /,
    *,
    description: str | None = None,
    name: str | None = None,
    repeat: bool = False,
    replay: InReplay = "log",
) -> Tool[P, R] | Callable[[Callable[P, R]], Tool[P, R]]:
    """Make a function a tool: `@tool`, or `@tool(description="...", repeat=True)`.

    Args:
        function: The function to call.
        description: The description that the model sees; the first paragraph of the function's
            docstring by default.
        name: The name that the model sees; the function's name by default.
        repeat: True to run the function again for a repeated call; see `Tool`.
        replay: "log" to return the recorded result in a replay, "run" to run the function.

    Returns:
        The tool; or, if only options are given, a decorator that makes one.

    Raises:
        ConfigError: No model could call the function; see `Tool`.
    """

    def make(function: Callable[P, R]) -> Tool[P, R]:
        return Tool(function, name=name, description=description, repeat=repeat, replay=replay)

    return make if function is None else make(function)


def as_tool(function: Callable[..., object]) -> Tool[..., object]:
    """Make a function a tool, unless it already is one.

    Args:
        function: A plain function, or a tool.

    Returns:
        The tool.

    Raises:
        ConfigError: `function` is not a function, or no model could call it; see `Tool`.
    """
    return function if isinstance(function, Tool) else Tool(function)


def _name(function: Callable[..., object]) -> str:
    """Get the name of a function, or of the class of a callable object."""
    function = _without_partial(function)
    return str(getattr(function, "__name__", type(function).__name__))


def _first_paragraph(function: Callable[..., object]) -> str:
    text = inspect.getdoc(_without_partial(function)) or ""
    return " ".join(text.split("\n\n", 1)[0].split())


def _without_partial(function: Callable[..., object]) -> Callable[..., object]:
    while isinstance(function, partial):  # its own name and docstring are those of functools
        function = function.func
    return function


def _rebuild(
    function: Callable[..., object], name: str, description: str, repeat: bool, replay: InReplay
) -> Tool[..., object]:
    return Tool(function, name=name, description=description, repeat=repeat, replay=replay)
