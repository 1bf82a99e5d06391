"""Describes values of numpy and pandas, without importing either.

A program that has such a value has loaded the library, so the library is taken from Python's loaded
modules. An array is written as its items, and a series or frame as its columns, up to `MOST_CELLS`
items. A larger one is written as its shape, types, first rows and a digest of all of it.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from lllm.events.values.stand_ins import NOTHING

MOST_CELLS = 100_000
HEAD = 20  # the first rows of a larger value, which are written
_AT_ONCE = 1 << 16  # items that are copied at once to compute a digest

Encode = Callable[[object], bytes]


class Described(NamedTuple):
    """The description of a value: its content as a standard type, and further fields.

    Attributes:
        content: The content as a value of a standard type; NOTHING if there is none.
        fields: The other fields of the value, by name.
    """

    content: object
    fields: Mapping[str, object]


def describe_array(value: object, kind: type, encode: Encode) -> Described | None:
    """Describe a value of numpy or pandas for the log.

    Args:
        value: The value, of any type.
        kind: The type of the value.
        encode: A function that turns any value into bytes, for the digest of objects.

    Returns:
        The description; None if the value is not of numpy or pandas.
    """
    for base in kind.__mro__:
        module = type.__getattribute__(base, "__module__")
        name = module.partition(".")[0] if type(module) is str else ""
        if name in _LIBRARIES:
            loaded = sys.modules.get(name)
            return None if loaded is None else _LIBRARIES[name](loaded, value, kind, encode)
    return None


# Any in the rest of this module: the types of the libraries are unknown without importing them.


def _of_numpy(numpy: Any, value: Any, kind: type, encode: Encode) -> Described | None:
    if issubclass(kind, numpy.ndarray):
        return _array(numpy, value, encode)
    if issubclass(kind, numpy.datetime64 | numpy.timedelta64):
        moment = None if numpy.isnat(value) else value.astype(f"{value.dtype.kind}8[us]").item()
        return Described(moment, {"text": str(value)})
    if issubclass(kind, numpy.generic):
        item = value.item()
        if not isinstance(item, numpy.generic):
            return Described(item, {})
        # A long double has more digits than a float.
        narrow = complex(item) if issubclass(kind, numpy.complexfloating) else float(item)
        return Described(narrow, {"text": str(value)})
    if issubclass(kind, numpy.dtype):
        return Described(str(value), {})
    return None


def _array(numpy: Any, array: Any, encode: Encode) -> Described:
    about: dict[str, object] = {"dtype": str(array.dtype), "shape": list(array.shape)}
    if isinstance(array, numpy.ma.MaskedArray):
        if array.size > MOST_CELLS:
            data = {"data": _large(array.data, encode), "mask": _large(array.mask, encode)}
            return Described(NOTHING, about | data)
        mask = numpy.ma.getmaskarray(array).tolist()
        return Described(array.tolist(), about | {"mask": mask})
    plain = numpy.asarray(array)
    if plain.size <= MOST_CELLS:
        return Described(plain.tolist(), about)
    return Described(NOTHING, about | _large(plain, encode))


def _large(array: Any, encode: Encode) -> dict[str, object]:
    rows = array[:HEAD] if array[:HEAD].size <= MOST_CELLS else array.reshape(-1)[:HEAD]
    return {"head": rows.tolist(), "digest": _digest(_array_pieces(array, encode))}


def _array_pieces(array: Any, encode: Encode) -> Iterator[bytes]:
    yield f"{array.dtype.str} {array.shape}".encode()
    for start in range(0, array.size, _AT_ONCE):
        piece = array.flat[start : start + _AT_ONCE]
        # The bytes of an array of objects are addresses, so its items are encoded instead.
        yield encode(piece.tolist()) if array.dtype.hasobject else piece.tobytes()


def _digest(pieces: Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return f"sha256:{digest.hexdigest()}"


def _of_pandas(pandas: Any, value: Any, kind: type, encode: Encode) -> Described | None:
    if issubclass(kind, pandas.DataFrame):
        return Described(NOTHING, _frame(value, encode))
    if issubclass(kind, pandas.Series):
        return Described(NOTHING, _series(value, encode))
    if issubclass(kind, pandas.Index | pandas.api.extensions.ExtensionArray):
        return _values(value, encode)
    if value is pandas.NaT or value is pandas.NA:
        return Described(None, {"text": str(value)})
    if issubclass(kind, pandas.Timestamp):
        text = {"text": str(value)} if value.nanosecond else {}
        return Described(value.to_pydatetime(warn=False), text)
    if issubclass(kind, pandas.Timedelta):
        text = {"text": str(value)} if value.nanoseconds else {}
        return Described(value.to_pytimedelta(), text)
    if issubclass(kind, pandas.Interval):
        fields = {"left": value.left, "right": value.right, "closed": value.closed}
        return Described(NOTHING, fields)
    if issubclass(kind, pandas.Period | pandas.api.extensions.ExtensionDtype):
        return Described(str(value), {})
    return None


def _frame(frame: Any, encode: Encode) -> dict[str, object]:
    names = list(frame.columns)
    whole = frame.size <= MOST_CELLS and len(frame) <= MOST_CELLS
    shown = frame if whole else frame.iloc[:HEAD]
    about: dict[str, object] = {
        "shape": list(frame.shape),
        "dtypes": _by_name(names, [str(dtype) for dtype in frame.dtypes]),
        "index": _index(shown.index),
    }
    columns = [shown.iloc[:, number].tolist() for number in range(len(names))]
    if whole:
        return about | {"columns": _by_name(names, columns)}
    pieces = _frame_pieces(frame, names, encode)
    return about | {"head": _by_name(names, columns), "digest": _digest(pieces)}


def _by_name(names: list[object], values: list[Any]) -> object:
    """Values by the names of the columns; as pairs if two columns have the same name."""
    named = dict(zip(names, values, strict=True))
    return named if len(named) == len(names) else list(zip(names, values, strict=True))


def _frame_pieces(frame: Any, names: list[object], encode: Encode) -> Iterator[bytes]:
    yield encode([names, list(frame.shape)])
    yield from _column_pieces(frame.index, encode)
    for number in range(len(names)):
        yield from _column_pieces(frame.iloc[:, number], encode)


def _series(series: Any, encode: Encode) -> dict[str, object]:
    about: dict[str, object] = {"name": series.name, "dtype": str(series.dtype)}
    if series.size <= MOST_CELLS:
        return about | {"index": _index(series.index), "values": series.tolist()}
    return about | {
        "shape": list(series.shape),
        "index": _index(series.index[:HEAD]),
        "head": series.iloc[:HEAD].tolist(),
        "digest": _digest(_series_pieces(series, encode)),
    }


def _series_pieces(series: Any, encode: Encode) -> Iterator[bytes]:
    yield encode([series.name, len(series)])
    yield from _column_pieces(series.index, encode)
    yield from _column_pieces(series, encode)


def _values(values: Any, encode: Encode) -> Described:
    """The values of an index, or of an array of pandas."""
    about: dict[str, object] = {"dtype": str(values.dtype)}
    if hasattr(values, "names"):
        about["names"] = list(values.names)
    if len(values) <= MOST_CELLS:
        return Described(list(values.tolist()), about)
    large = {"shape": list(values.shape), "head": list(values[:HEAD].tolist())}
    return Described(NOTHING, about | large | {"digest": _digest(_column_pieces(values, encode))})


def _index(index: Any) -> object:
    """The index of a series or frame; a range if it only counts the rows."""
    if type(index).__name__ == "RangeIndex":
        return range(index.start, index.stop, index.step)
    return index.tolist()


def _column_pieces(column: Any, encode: Encode) -> Iterator[bytes]:
    yield str(column.dtype).encode()
    simple = getattr(column.dtype, "kind", "O") in "biufcmM" and hasattr(column.dtype, "itemsize")
    for start in range(0, len(column), _AT_ONCE):
        end = start + _AT_ONCE
        piece = column.iloc[start:end] if hasattr(column, "iloc") else column[start:end]
        array = piece.to_numpy() if simple and hasattr(piece, "to_numpy") else None
        if array is not None and not array.dtype.hasobject:
            yield array.tobytes()
        else:
            yield encode(piece.tolist())


_LIBRARIES: dict[str, Callable[[Any, Any, type, Encode], Described | None]] = {
    "numpy": _of_numpy,
    "pandas": _of_pandas,
}
