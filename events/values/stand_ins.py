"""Read-only stand-ins for values whose type would need the original program to be loaded.

For an enum's member, a namedtuple, a numpy scalar or an instance of a subclass of `str`, `dict` and
so on, a log contains the name of the type and the content. Loading it imports no module and calls
no constructor that the log names. It returns a value of the nearest standard type, which equals the
original's content and has the attributes `type_name` and `fields`. Each field is also an attribute.
"""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")


class StandIn:
    """A read-only value in place of one whose type isn't loaded: its type name and its fields.

    Attributes:
        type_name: The type's module and qualified name, as `"app.models.Color"`.
        fields: The known fields of the value, by name.
    """

    type_name: str
    fields: Mapping[str, object]

    def __getattr__(self, name: str) -> object:
        try:
            return vars(self)["fields"][name]
        except KeyError:
            message = f"The stand-in for {vars(self).get('type_name')} has no field {name!r}."
            raise AttributeError(message) from None

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"A stand-in for {self.type_name} is read-only.")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"A stand-in for {self.type_name} is read-only.")

    def __reduce_ex__(self, _: object) -> tuple[Callable[..., object], tuple[object, ...]]:
        return stand_in, (self.type_name, content_of(self), dict(self.fields))


class PlainStandIn(StandIn):
    """A stand-in for a value without a standard type that can be subclassed."""

    def __repr__(self) -> str:
        fields = "".join(f" {name}={value!r}" for name, value in self.fields.items())
        return f"<{self.type_name}{fields}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PlainStandIn):
            return NotImplemented
        return self.type_name == other.type_name and self.fields == other.fields

    def __hash__(self) -> int:
        simple = (str, int, float, type(None))
        known = tuple(value for value in self.fields.values() if isinstance(value, simple))
        return hash((self.type_name, *self.fields, known))


class _Int(StandIn, int):
    pass


class _Float(StandIn, float):
    pass


class _Complex(StandIn, complex):
    pass


class _Str(StandIn, str):
    pass


class _Bytes(StandIn, bytes):
    pass


class _Tuple(StandIn, tuple[object, ...]):
    pass


class _FrozenSet(StandIn, frozenset[object]):
    pass


class _Decimal(StandIn, decimal.Decimal):
    pass


class _DateTime(StandIn, dt.datetime):
    pass


class _Date(StandIn, dt.date):
    pass


class _TimeDelta(StandIn, dt.timedelta):
    pass


def _refuse(self: StandIn, *_: object, **__: object) -> NoReturn:
    raise TypeError(f"A stand-in for {self.type_name} is read-only.")


class _List(StandIn, list[object]):
    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = clear = extend = insert = pop = remove = reverse = sort = _refuse


class _Dict(StandIn, dict[object, object]):
    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse


# Any: each function gets only values of its own type.
_MAKE: dict[type, Callable[[Any], StandIn]] = {
    int: _Int,
    float: _Float,
    complex: _Complex,
    str: _Str,
    bytes: _Bytes,
    tuple: _Tuple,
    frozenset: _FrozenSet,
    list: _List,
    dict: _Dict,
    decimal.Decimal: _Decimal,
    dt.datetime: lambda value: _DateTime.combine(value.date(), value.timetz()),
    dt.date: lambda value: _Date(value.year, value.month, value.day),
    dt.timedelta: lambda value: _TimeDelta(value.days, value.seconds, value.microseconds),
}
_CONTENT: dict[type, Callable[[Any], object]] = {
    _Int: int.__int__,
    _Float: float.__float__,
    _Complex: complex.__complex__,
    _Str: str.__str__,
    _Bytes: bytes.__bytes__,
    _Tuple: lambda value: tuple(tuple.__iter__(value)),
    _FrozenSet: lambda value: frozenset(frozenset.__iter__(value)),
    _List: lambda value: list(list.__iter__(value)),
    _Dict: lambda value: dict(dict.items(value)),
    _Decimal: lambda value: decimal.Decimal(value.as_tuple()),
    _DateTime: lambda value: dt.datetime.combine(value.date(), value.timetz()),
    _Date: lambda value: dt.date(value.year, value.month, value.day),
    _TimeDelta: lambda value: dt.timedelta(value.days, value.seconds, value.microseconds),
}


class _Nothing:
    def __reduce__(self) -> str:
        return "NOTHING"  # one in each process


NOTHING = _Nothing()  # the content of a PlainStandIn


def stand_in(type_name: str, content: object, fields: Mapping[str, object]) -> object:
    """Make a stand-in for a value.

    Args:
        type_name: The name of the value's type, as "app.models.Color".
        content: The content as a value of a standard type; `NOTHING` if the value has only fields.
        fields: The other known fields of the value, by name.

    Returns:
        A StandIn, of the content's type if that can be subclassed. If it can't and there are no
        fields, as for numpy's booleans, the content itself.
    """
    make = _MAKE.get(type(content))
    if make is not None:
        made = make(content)
    elif content is NOTHING or content is None or fields:
        made = PlainStandIn()
        fields = fields if content is NOTHING else {"value": content, **fields}
    else:
        return content
    vars(made).update(type_name=type_name, fields=MappingProxyType(dict(fields)))
    return made


def content_of(value: StandIn) -> object:
    """Return the content of a stand-in.

    Args:
        value: The stand-in.

    Returns:
        A value of a standard type; `NOTHING` if the stand-in has only fields.
    """
    content = _CONTENT.get(type(value))
    return NOTHING if content is None else content(value)
