"""What a user takes out of payloads before they are written.

`redact` gets the type and the payload of an event, as JSON values, and returns what is to be
written. Where it raises, or returns what is no payload of this event, nothing that came from the
user, a model or a tool is written: marks stand in its place. Better no record than a secret. What
lllm itself says (ordinals, states, durations, prices) stays, so that the session can still be
loaded and its bill adds up.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec

from lllm.events import codec
from lllm.events.model import Content, Error, Event
from lllm.events.plain import MARK

Redact = Callable[[str, object], object]

_QUOTING = {"agent.defined": "system", "retry.scheduled": "reason"}  # fields of type str
_COLLECTIONS = ("tags", "set", "removed", "tools", "prompts")


def payload(event: Event, redact: Redact | None) -> bytes:
    """An event's payload as it is stored, after the user's `redact` has seen it."""
    data = codec.encode(event)
    if redact is None:
        return data
    try:
        written = codec.encode(_with_salt(event, redact(event.type, codec.values(data))))
        msgspec.convert(codec.values(written), type(event))
    except Exception as error:  # the user's function may raise anything
        _warn_once(redact, error)
        return codec.encode(without_content(event, type(error).__name__))
    return written


_logger = logging.getLogger("lllm.store")
_warned: set[int] = set()  # the functions that were complained of, so that it is said once


def _warn_once(redact: Redact, error: Exception) -> None:
    if id(redact) in _warned:
        return
    _warned.add(id(redact))
    _logger.warning(
        "redact=%r raised %s or returned no payload, so such events are kept without content: %s",
        redact, type(error).__name__, error,
    )  # fmt: skip


def _with_salt(event: Event, redacted: object) -> object:
    """The salt is no content, and without it nobody could check the stream."""
    salt: bytes | None = getattr(event, "salt", None)
    return redacted if salt is None or type(redacted) is not dict else redacted | {"salt": salt}


def without_content(event: Event, why: str) -> Event:
    """The event with marks in place of everything that did not come from lllm itself.

    why: the name of the error that is to blame.
    """
    changes = {
        field.name: _marked(event, field.name, field.type is object, why)
        for field in msgspec.structs.fields(event)
    }
    return msgspec.structs.replace(event, **changes)


def _marked(event: Event, name: str, anything: bool, why: str) -> object:
    value: object = getattr(event, name)
    told = f"(redacted: redact failed with {why})"
    if anything:
        return None if value is None else {MARK: "redacted", "error": why}
    if isinstance(value, Content):
        return msgspec.structs.replace(Content.of(value.role, told), call_id=value.call_id)
    if isinstance(value, Error):
        return Error(value.type, told, code=value.code, status=value.status)
    if name == _QUOTING.get(event.type):
        return told
    if name in _COLLECTIONS:
        return type(value)()
    return value
