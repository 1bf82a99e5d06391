"""Makes the JSON schema of a Python type, and checks the JSON that a model sends for it.

The type may be a msgspec Struct, a dataclass, a pydantic model, or anything else that msgspec can
decode. pydantic is never imported here: a class with its two methods is treated as a pydantic
model, also as a field of a Struct, and is validated by its own rules.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import PurePath
from typing import NoReturn, Protocol, TypeVar, cast, runtime_checkable

import msgspec

from lllm.events.codec import encode
from lllm.events.concurrency.decoders import decoder, warm_msgspec
from lllm.events.errors import ParseError

T = TypeVar("T")

# `{}` is the schema that allows anything, but msgspec treats it as no schema; so it gets a mark.
_ANYTHING = "$lllm.anything"

_SNIPPET = 40  # characters shown of an invalid text, from the error on


@runtime_checkable
class PydanticModel(Protocol):
    """The two methods by which a pydantic model class is recognised.

    See https://docs.pydantic.dev/latest/api/base_model/
    """

    def model_json_schema(self, *, ref_template: str = ...) -> dict[str, object]:
        """Make the JSON schema of the class.

        Args:
            ref_template: The form of a `$ref` to another model, whose schema is in `$defs`.

        Returns:
            The JSON schema.
        """

    def model_validate_json(self, json_data: str | bytes) -> object:
        """Make an instance from JSON.

        Args:
            json_data: The JSON text.

        Returns:
            The instance.

        Raises:
            ValueError: The JSON does not match; it is pydantic's ValidationError.
        """


def schema_of(kind: type) -> dict[str, object]:
    """Make the JSON schema of a type, in the form that providers accept.

    Args:
        kind: A Struct, a dataclass, a pydantic model, or any type that msgspec can decode.

    Returns:
        The schema. The root is the type's own schema, because providers refuse a `$ref` there; all
        other types are in `$defs`.

    Raises:
        TypeError: A type in it has no JSON form.
    """
    if isinstance(kind, PydanticModel):
        return _at_root(kind.model_json_schema(ref_template="#/$defs/{model}"))
    foreign = _PydanticSchemas()
    (root,), components = msgspec.json.schema_components([kind], schema_hook=foreign.schema)
    schema = {**root, "$defs": {**components, **foreign.definitions}}
    # Defaults may be tuples or enums; a schema is plain JSON.
    return _at_root(cast(dict[str, object], _unmarked(msgspec.to_builtins(schema))))


def _unmarked(schema: object) -> object:
    if isinstance(schema, list):
        return [_unmarked(item) for item in schema]
    if isinstance(schema, dict):
        return {key: _unmarked(item) for key, item in schema.items() if key != _ANYTHING}
    return schema


class _PydanticSchemas:
    """Collects the schemas of the pydantic models that msgspec meets, and their `$defs`."""

    def __init__(self) -> None:
        self.definitions: dict[str, object] = {}
        self._prefixes: dict[type, str] = {}

    def schema(self, kind: type) -> dict[str, object]:
        if kind is object:
            return {_ANYTHING: True}
        if issubclass(kind, PurePath):
            return {"type": "string", "format": "path"}  # as pydantic describes it
        if not isinstance(kind, PydanticModel):
            raise NotImplementedError  # makes msgspec name the type in its error
        # The number keeps two models with the same name apart, also from a Struct of that name.
        prefix = self._prefixes.setdefault(kind, f"{kind.__name__}.{len(self._prefixes) + 1}.")
        schema = kind.model_json_schema(ref_template=f"#/$defs/{prefix}{{model}}")
        inner = cast(Mapping[str, object], schema.pop("$defs", {}))
        self.definitions.update({prefix + name: item for name, item in inner.items()})
        return schema


def _at_root(schema: dict[str, object]) -> dict[str, object]:
    """Replace the root of a schema, if it is a reference, by the type that it refers to."""
    schema = dict(schema)
    definitions = dict(cast(Mapping[str, object], schema.pop("$defs", {})))
    reference = schema.get("$ref")
    if isinstance(reference, str):
        name = reference.removeprefix("#/$defs/")
        schema = dict(cast(Mapping[str, object], definitions[name]))
        if encode(reference) not in encode(definitions):  # the type is not recursive
            del definitions[name]
    return {**schema, "$defs": definitions} if definitions else schema


def read_json(text: str, kind: type[T]) -> T:
    """Parse JSON as an instance of a type; JSON types are not converted into each other.

    Args:
        text: The JSON text.
        kind: Any type that `schema_of` accepts.

    Returns:
        The instance.

    Raises:
        ParseError: The text does not match; the message tells its author what is wrong, and where.
    """
    try:
        if isinstance(kind, PydanticModel):
            return cast(T, kind.model_validate_json(text))
        return decoder(kind, dec_hook=_convert).decode(text)
    except msgspec.ValidationError as error:
        raise ParseError(f"{error}.") from error
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return _read_slowly(text, kind)
    except ValueError as error:
        raise ParseError(explain(error)) from error


def _read_slowly(text: str, kind: type[T]) -> T:
    """Parse JSON with Python's parser, which accepts lone surrogates and locates errors."""
    try:
        value = json.loads(text, parse_constant=_refuse)
        return msgspec.convert(value, warm_msgspec(kind), dec_hook=_convert)
    except json.JSONDecodeError as error:
        rest = text[error.pos : error.pos + _SNIPPET]
        where = f"line {error.lineno}, column {error.colno}"
        before = f"before {rest!r}" if rest else "where the text ends"
        raise ParseError(f"It is not valid JSON: {error.msg} at {where}, {before}.") from error
    except RecursionError as error:
        raise ParseError("It is nested too deeply.") from error
    except (msgspec.ValidationError, ValueError) as error:
        raise ParseError(f"{error}.") from error


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"It is not valid JSON: it has no {constant}")


def _convert(kind: type, value: object) -> object:
    """Decode a type that msgspec does not know; its `dec_hook`."""
    if issubclass(kind, PurePath):
        if not isinstance(value, str):
            raise ValueError(f"Expected `str`, got `{type(value).__name__}`")
        return kind(value)
    if not isinstance(kind, PydanticModel):
        return value  # the type `object` accepts anything
    try:
        return kind.model_validate_json(encode(value))
    except ValueError as error:
        raise ValueError(explain(error).removesuffix(".")) from error  # msgspec adds the path


def explain(error: Exception) -> str:
    """Convert a validator's error message to a sentence.

    Args:
        error: A ValueError of a parser, or pydantic's ValidationError.

    Returns:
        The message; that of pydantic without links and input values.
    """
    details = getattr(error, "errors", None)
    if not callable(details):
        return str(error) or type(error).__name__
    found = cast(list[Mapping[str, object]], details())
    messages: list[str] = []
    for item in found:
        where = ".".join(str(step) for step in cast(tuple[object, ...], item["loc"]))
        messages.append(f"`{where}`: {item['msg']}" if where else str(item["msg"]))
    return "; ".join(messages) + "."
