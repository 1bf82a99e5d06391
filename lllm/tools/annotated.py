"""Converts the metadata in a tool parameter's `Annotated` for msgspec.

A description may be a plain text or `Doc` (PEP 727). Bounds and descriptions may be pydantic's
`Field` or annotated-types' `Ge`, `Len`, `Interval` and so on
(https://github.com/annotated-types/annotated-types). Neither library is imported here: their
objects are recognised by their attributes. Metadata of other libraries is ignored, as
https://typing.python.org/en/latest/spec/qualifiers.html#annotated requires.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Union

import msgspec

_meta: Callable[..., msgspec.Meta] = msgspec.Meta  # it checks its arguments itself
# Attributes of pydantic's and annotated-types' objects that msgspec.Meta also has.
_BOUNDS = ("gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length", "pattern")
_TEXTS = ("title", "description", "examples")
# attributes of pydantic's StringConstraints that change the value
_CHANGES = ("strip_whitespace", "to_lower", "to_upper")
_VALIDATORS = ("BeforeValidator", "AfterValidator", "PlainValidator", "WrapValidator", "Predicate")


def in_terms_of_msgspec(hint: object) -> object:
    """Convert a type hint to a form that msgspec understands.

    Args:
        hint: Any type hint.

    Returns:
        The hint; the metadata of every nested `Annotated` is replaced by one msgspec.Meta.

    Raises:
        TypeError: A check can't be expressed in JSON Schema, such as a validator function.
    """
    arguments = typing.get_args(hint)
    if not arguments:
        return hint
    origin = typing.get_origin(hint)
    if origin is Annotated:
        inner, *metadata = arguments
        return _annotated(in_terms_of_msgspec(inner), metadata)
    if origin is typing.Literal:
        return hint
    new = tuple(
        [in_terms_of_msgspec(one) for one in argument]
        if isinstance(argument, list)
        else in_terms_of_msgspec(argument)
        for argument in arguments
    )
    if new == arguments:
        return hint
    if origin in (Union, types.UnionType):
        return Union[new]  # noqa: UP007 - a tuple of types, known only now
    assert origin is not None  # a type with arguments has an origin
    return origin[new if len(new) > 1 else new[0]]


def _annotated(inner: object, metadata: Iterable[object]) -> object:
    meta: dict[str, object] = {}  # arguments of msgspec.Meta
    others: list[object] = []
    for item in _flat(metadata):
        if isinstance(item, msgspec.Meta):
            others.append(item)
        elif isinstance(item, str):
            meta.setdefault("description", item)
        elif type(item).__name__ in _VALIDATORS or any(getattr(item, n, None) for n in _CHANGES):
            raise TypeError(f"{item!r} has no form in a JSON schema; check it in the function")
        else:
            meta.update(_meta_arguments(item))
    if meta:
        others.append(_meta(**meta))
    return Annotated[(inner, *others)] if others else inner


def _flat(metadata: Iterable[object]) -> Iterator[object]:
    """List all metadata, including that inside a pydantic Field."""
    for item in metadata:
        yield item
        group = getattr(item, "metadata", None)
        if isinstance(group, list):  # pydantic.fields.FieldInfo
            yield from _flat(group)


def _meta_arguments(item: object) -> dict[str, object]:
    """Convert another library's metadata object to arguments of msgspec.Meta."""
    documentation = getattr(item, "documentation", None)
    if isinstance(documentation, str):  # typing_extensions.Doc
        return {"description": documentation}
    found = {name: getattr(item, name, None) for name in (*_BOUNDS, *_TEXTS)}
    return {
        name: value
        for name, value in found.items()
        if value is not None and not callable(value) and not (name == "min_length" and value == 0)
    }
