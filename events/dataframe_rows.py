"""A base class for records that pandas and polars take as rows.

`pandas.DataFrame(records)` and `polars.DataFrame(records)` turn a list of dataclasses into a table
with a column for each field. They recognise dataclasses by `dataclasses.is_dataclass`, and do this
for no other objects (https://pandas.pydata.org/docs/reference/api/pandas.DataFrame.html). A
`TableRow` looks like a dataclass: `dataclasses.fields`, `asdict` and `replace` work on it.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

_MADE = ("__dataclass_fields__", "__dataclass_params__")


class _OfTwin:
    """A class attribute that is taken from a dataclass with the same fields.

    That dataclass is made at the first access: most programs never need it, and importing
    `dataclasses` is slow.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, _: object, owner: type[msgspec.Struct]) -> Any:
        from dataclasses import make_dataclass

        types = {field.name: field.type for field in msgspec.structs.fields(owner)}
        twin = make_dataclass(owner.__name__, types.items(), frozen=True)
        for name in _MADE:
            setattr(owner, name, getattr(twin, name))
        return getattr(twin, self._name)


class TableRow:
    """A base for Structs: a list of them becomes a data frame with a column for each field."""

    __slots__ = ()

    __dataclass_fields__: ClassVar[Any] = _OfTwin("__dataclass_fields__")
    __dataclass_params__: ClassVar[Any] = _OfTwin("__dataclass_params__")
