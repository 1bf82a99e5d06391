"""Converts a tool's return value to text for the model and to JSON for the log."""

from __future__ import annotations

from contextlib import suppress
from typing import cast

import msgspec

from lllm.events.codec import encode
from lllm.events.values.json_values import MARK, to_plain
from lllm.events.values.readable import readable


class RecordedResult(msgspec.Struct, frozen=True):
    """A tool's recorded return value, which a replay uses as the answer."""

    text: str
    value: object


def result_text(value: object) -> str:
    """Convert a value to text for a model: text is unchanged, all else becomes JSON.

    None becomes `null`, because only the tool's description tells whether it means "done" or
    "nothing found". Dates, sets, enums, models, arrays and frames take their usual JSON forms. An
    object without one becomes its repr, because the log's marks (`{"$lllm": ...}`) would confuse a
    model; they are used only if nothing else is possible, as for a cycle.

    Args:
        value: Any value, such as a tool's return value.

    Returns:
        The text for the model.
    """
    return result_forms(value)[0]


def result_forms(value: object) -> tuple[str, object]:
    """Convert a value to its text for a model and its form for the log.

    Args:
        value: Any value, such as a tool's return value.

    Returns:
        The text of `result_text`, and the recorded form; that is None if it would only repeat the
        text.
    """
    if type(value) is str:
        return value, None
    if type(value) is RecordedResult:
        return value.text, value.value
    plain = to_plain(value)
    if issubclass(type(value), str):
        return str.__str__(cast(str, value)), plain
    return _json_text(value, plain), plain


def _json_text(value: object, plain: object) -> str:
    # A value that contains itself many times would be endless if it were written out.
    if not (type(plain) is dict and plain.get(MARK) == "parts"):
        # A user's repr or property may raise anything; also a cycle, a lone surrogate, or odd keys.
        with suppress(Exception):
            return msgspec.json.encode(value, enc_hook=_customary_form).decode()
    try:
        return encode(readable(plain)).decode()
    except Exception:  # a form that can't be read
        return encode(plain).decode()


def _customary_form(value: object) -> object:
    """Get the usual JSON form of an object that msgspec does not know."""
    dump = getattr(type(value), "model_dump", None)
    return dump(value, mode="json") if callable(dump) else readable(to_plain(value))
