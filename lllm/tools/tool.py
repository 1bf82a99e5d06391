"""A tool: a Python function that a model may call.

Its signature becomes the JSON schema that the model is told, and checks what the model sends
(`lllm.tools.function_schema`). A tool runs the same from plain code and on an event loop, whether
it is a `def` or an `async def`.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Generic, ParamSpec, TypeVar, cast, overload

import msgspec

from lllm.events.codec import encode
from lllm.events.errors import ConfigError
from lllm.events.model import ToolDefinition
from lllm.events.values.json_values import MARK, to_plain
from lllm.events.values.readable import readable
from lllm.tools.event_loop import arun, run
from lllm.tools.function_schema import Arguments

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

# https://platform.openai.com/docs/api-reference/chat/create, `tools[].function.name`; the other
# providers take no less.
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


class Tool(Generic[P, R_co]):
    """A function with all that a model needs to call it; calling the tool calls the function.

    name, description: what the model is told. schema: the JSON schema of its arguments, an object.
    repeat: whether the same call may run twice within one answer, as for a tool that polls.
    """

    def __init__(
        self,
        function: Callable[P, R_co],
        *,
        name: str | None = None,
        description: str | None = None,
        repeat: bool = False,
    ) -> None:
        """name: the function's own by default. description: its docstring's first paragraph.

        Raises ConfigError where no model could call the function: a name that providers refuse,
        `*args` or `**kwargs`, a hint that can't be resolved or has no JSON form.
        """
        is_class: bool = isinstance(function, type)  # apart, or mypy forgets the signature
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
        self._arguments = Arguments(function, self.name)
        self.schema = self._arguments.schema
        self.__doc__ = function.__doc__
        self.__module__ = function.__module__
        self.__qualname__ = getattr(function, "__qualname__", self.name)
        self.__wrapped__ = function

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Tool {self.name}>"

    def __reduce__(self) -> str | tuple[object, ...]:
        # The decorated name stands for the tool, so pickle can't find the bare function there; the
        # tool itself is what it finds, in the process that unpickles too.
        found: object = sys.modules.get(self.__module__)
        for step in self.__qualname__.split("."):
            found = getattr(found, step, None)
        if found is self:
            return self.__qualname__
        return _rebuild, (self.function, self.name, self.description, self.repeat)

    @property
    def is_async(self) -> bool:
        """Whether it is an `async def`, or an object that is called as one."""
        return _is_async(self.function)

    @property
    def definition(self) -> ToolDefinition:
        """What the model is told of the tool."""
        return ToolDefinition(self.name, self.description, self.schema)

    def parse_arguments(self, text: str) -> dict[str, object]:
        """The arguments as the function takes them, from the JSON text that the model sent.

        Those that it left out are left out. Empty text is no arguments; nothing is coerced.

        Raises ParseError, which tells the model what to mend.
        """
        return self._arguments.read(text)

    def run(self, arguments: Mapping[str, object]) -> object:
        """Call the function and wait for what it returns; whatever it raises is raised.

        An `async def` runs on an event loop of its own, in another thread where this one has a
        loop running already, as in a notebook.
        """
        return run(partial(self._call, arguments))

    async def arun(self, arguments: Mapping[str, object]) -> object:
        """The same on an event loop: a plain function runs in a thread, so as not to hold it up."""
        return await arun(partial(self._call, arguments), is_async=self.is_async)

    def _call(self, arguments: Mapping[str, object]) -> object:
        try:
            return cast(Callable[..., object], self.function)(**arguments)
        except StopIteration as error:
            # A future can't carry one: before Python 3.12 whoever awaits it waits for ever.
            raise RuntimeError(f"The tool {self.name} raised StopIteration.") from error


@overload
def tool(function: Callable[P, R], /) -> Tool[P, R]: ...


@overload
def tool(
    *, description: str | None = None, name: str | None = None, repeat: bool = False
) -> Callable[[Callable[P, R]], Tool[P, R]]: ...


def tool(
    function: Callable[P, R] | None = None,
    /,
    *,
    description: str | None = None,
    name: str | None = None,
    repeat: bool = False,
) -> Tool[P, R] | Callable[[Callable[P, R]], Tool[P, R]]:
    """Make a function a tool: `@tool`, or `@tool(description="...", repeat=True)`.

    The arguments, and what is raised, are those of `Tool`.
    """

    def make(function: Callable[P, R]) -> Tool[P, R]:
        return Tool(function, name=name, description=description, repeat=repeat)

    return make if function is None else make(function)


def as_tool(function: Callable[..., object]) -> Tool[..., object]:
    """A tool as it is, a plain function as a tool. Raises ConfigError for anything else."""
    return function if isinstance(function, Tool) else Tool(function)


def result_text(value: object) -> str:
    """What a tool returned, as the model reads it: text as it is, everything else as JSON.

    None is `null`, for only the tool's description knows whether that means "done" or "nothing
    found". Dates, sets, enums, models, arrays and frames take their customary JSON forms, and an
    object that has none its repr: the marks that the log keeps (`{"$lllm": ...}`) would puzzle a
    model. They stay where nothing else will do, as for a cycle.
    """
    return result_forms(value)[0]


def result_forms(value: object) -> tuple[str, object]:
    """What a tool returned, as the model reads it and as the log keeps it beside that.

    Args:
        value: Any value.

    Returns:
        The text of `result_text`; and the recorded form, None where the text says it all.
    """
    if type(value) is str:
        return value, None
    plain = to_plain(value)
    if issubclass(type(value), str):
        return str.__str__(cast(str, value)), plain
    return _told_text(value, plain), plain


def _told_text(value: object, plain: object) -> str:
    # What is written in parts holds itself so often that written out it would have no end.
    if not (type(plain) is dict and plain.get(MARK) == "parts"):
        # Whatever a repr or property of theirs raises; a cycle, a lone surrogate, odd keys.
        with suppress(Exception):
            return msgspec.json.encode(value, enc_hook=_customary).decode()
    try:
        return encode(readable(plain)).decode()
    except Exception:  # a form that we don't know how to read
        return encode(plain).decode()


def _customary(value: object) -> object:
    dump = getattr(type(value), "model_dump", None)
    return dump(value, mode="json") if callable(dump) else readable(to_plain(value))


def _name(function: Callable[..., object]) -> str:
    """Of a function, of the one within a partial, or of an object's class."""
    while isinstance(function, partial):
        function = function.func
    return str(getattr(function, "__name__", type(function).__name__))


def _is_async(function: Callable[..., object]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - of an object that is called
    )


def _first_paragraph(function: Callable[..., object]) -> str:
    while isinstance(function, partial):  # whose own docstring is functools'
        function = function.func
    text = inspect.getdoc(function) or ""
    return " ".join(text.split("\n\n", 1)[0].split())


def _rebuild(
    function: Callable[..., object], name: str, description: str, repeat: bool
) -> Tool[..., object]:
    return Tool(function, name=name, description=description, repeat=repeat)
