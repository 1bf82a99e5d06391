"""Makes the JSON schema of a function's arguments, and checks the arguments that a model sends.

The parameters become the fields of a msgspec Struct, whose JSON schema is the tool's. A parameter
without a default is required, one without a hint accepts any value, and `Annotated[T, "what it
is"]` adds a description (`lllm.tools.annotated`). Invalid arguments raise a ParseError; its text is
written for the model, which has to correct them.
"""

from __future__ import annotations

import functools
import inspect
import types
import typing
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import msgspec

from lllm.events.errors import ConfigError, ParseError
from lllm.tools.annotated import in_terms_of_msgspec
from lllm.tools.json_schema import read_json, schema_of

if TYPE_CHECKING:
    from collections.abc import Callable


class Arguments:
    """The arguments of one tool.

    Args:
        function: The function that takes them.
        tool_name: The name of the tool, for errors.

    Attributes:
        schema: The JSON schema of the arguments, an object.

    Raises:
        ConfigError: The function can't be called with named arguments that JSON can express.
    """

    def __init__(self, function: Callable[..., object], tool_name: str) -> None:
        self._tool_name = tool_name
        self._parameters = _parameters(function, tool_name)
        self._struct = _struct(self._parameters)
        self.schema = _schema(self._struct, self._parameters, tool_name)

    def read(self, text: str) -> dict[str, object]:
        """Parse and check the arguments that a model sent.

        Args:
            text: The arguments as JSON; empty text means no arguments.

        Returns:
            The arguments by name, converted to the hinted types, without those that the model
            omitted.

        Raises:
            ParseError: The arguments are invalid; the message tells the model what to correct.
        """
        try:
            given = read_json(text if text.strip() else "{}", self._struct)
        except ParseError as error:
            raise ParseError(
                f"The arguments for {self._tool_name} are wrong: {error} {self._usage()}"
            ) from error
        values = {name: getattr(given, field) for field, name in _fields(self._parameters)}
        return {name: value for name, value in values.items() if value is not msgspec.UNSET}

    def _usage(self) -> str:
        names = [
            f"{name} (required)" if parameter.required else name
            for name, parameter in self._parameters.items()
        ]
        return f"It takes: {', '.join(names)}." if names else "It takes no arguments."


class _Parameter(msgspec.Struct, frozen=True):
    """One argument; its default is msgspec.UNSET if it is required."""

    hint: object
    default: object

    @property
    def required(self) -> bool:
        return self.default is msgspec.UNSET


_Parameters = dict[str, _Parameter]


def _parameters(function: Callable[..., object], tool_name: str) -> _Parameters:
    try:
        signature = inspect.signature(function)
        hints = _hints(function)
    except Exception as error:  # a hint is an expression, which may raise anything
        raise ConfigError(
            f"The signature of the tool {tool_name} can't be read: {error}. Its type hints must "
            "be names of its module, not of a function or of an `if TYPE_CHECKING:` block, and "
            "the checks of a parameter must be such as a JSON schema has."
        ) from error
    for parameter in signature.parameters.values():
        _check(parameter, tool_name)
    return {
        name: _Parameter(
            hint=hints.get(name, Any),
            default=msgspec.UNSET if parameter.default is parameter.empty else parameter.default,
        )
        for name, parameter in signature.parameters.items()
    }


def _check(parameter: inspect.Parameter, tool_name: str) -> None:
    if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
        raise ConfigError(
            f"The tool {tool_name} takes `{parameter}` by position or in any number; a model gives "
            "each argument by its name."
        )
    if parameter.name == "self":
        raise ConfigError(
            f"The tool {tool_name} is a method without its object. Give the bound method instead: "
            "tools=[thing.method]."
        )


def _hints(function: Callable[..., object]) -> dict[str, object]:
    """Get the type hints of the parameters; the hint of the return value is ignored."""
    inner = _function_with_hints(function)
    annotations = dict(getattr(inner, "__annotations__", {}))
    annotations.pop("return", None)
    holder = types.SimpleNamespace(__annotations__=annotations)
    names = getattr(inner, "__globals__", {})
    hints = typing.get_type_hints(holder, globalns=names, include_extras=True)
    return {name: in_terms_of_msgspec(hint) for name, hint in hints.items()}


def _function_with_hints(function: Callable[..., object]) -> Callable[..., object]:
    """Find the function inside decorators, partials and objects with __call__."""
    while True:
        inner = inspect.unwrap(function)
        if isinstance(inner, functools.partial):
            function = inner.func
        elif inspect.isroutine(inner):
            return inner
        else:
            function = type(inner).__call__


def _fields(parameters: _Parameters) -> list[tuple[str, str]]:
    """Pair each parameter with a valid field name of a Struct."""
    return [(f"field_{index}", name) for index, name in enumerate(parameters)]


def _struct(parameters: _Parameters) -> type[msgspec.Struct]:
    """Make a Struct with the parameters as fields; arguments that a model omits are UNSET."""
    # Without the function's own defaults, which a Struct may not accept.
    return msgspec.defstruct(
        "Arguments",
        [
            (
                field,
                cast(type, parameters[name].hint),
                msgspec.field(
                    name=name,
                    default=msgspec.NODEFAULT if parameters[name].required else msgspec.UNSET,
                ),
            )
            for field, name in _fields(parameters)
        ],
        module=__name__,
        forbid_unknown_fields=True,
        kw_only=True,
    )


def _schema(
    struct: type[msgspec.Struct], parameters: _Parameters, tool_name: str
) -> dict[str, object]:
    try:
        schema = schema_of(struct)
    except Exception as error:  # a schema hook of a user's type may raise anything
        raise ConfigError(
            # The last line of msgspec's error names the type; the others are for msgspec's own
            # users.
            f"{_what_has_no_json(parameters, tool_name)} {str(error).splitlines()[-1]}. Hint it as "
            "what JSON has (str, int, float, bool, list, dict, a dataclass, a Struct or a pydantic "
            "model), and convert it in the function."
        ) from error
    del schema["title"]
    properties = cast(dict[str, dict[str, object]], schema["properties"])
    for name, parameter in parameters.items():
        if not parameter.required:
            with suppress(Exception):  # a default without a JSON form is left out of the schema
                default = msgspec.json.encode(parameter.default)
                properties[name]["default"] = msgspec.json.decode(default)
    return schema


def _what_has_no_json(parameters: _Parameters, tool_name: str) -> str:
    """Begin an error message with the parameter that has no JSON form."""
    for name, parameter in parameters.items():
        try:
            schema_of(_struct({name: parameter}))
        except Exception:
            return f"The parameter {name!r} of the tool {tool_name} has no JSON form:"
    return f"A type hint of the tool {tool_name} has no JSON form:"
