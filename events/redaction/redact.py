"""Redacts payloads before they are written: known secrets, and what the user asked for.

Every event goes through `payload` before it is written to a log. Known secrets (`cut_text`: API
keys, credentials in headers, passwords beside their names, private keys) are always replaced. The
argument `redact` adds to this: ready patterns, the user's own patterns, or a function that gets the
type and the payload of an event as JSON values and returns the payload to be written; or several of
them, applied in order. Known secrets are replaced first, so that no function sees one, and again in
the result of each function.

A mark, `[redacted: openai-key]`, replaces each secret, and the payload counts the marks by kind, in
a member that no event has a field for:

    "$lllm_redacted": {"openai-key": 2}

The decoder of events skips this member, readers of the JSON see it, and `redacted_in` returns it.
The digest of an event covers the payload that is written, so a log with marks is verified like any
other.

If a function or a check raises, or returns something that is not a payload of this event, all
content from the user, a model or a tool is replaced by marks: a missing record is better than a
leaked secret. The values that lllm itself writes (ordinals, states, durations, prices) are kept, so
the session can still be loaded and its bill is complete.

Known trade-offs (accepted): a secret is not found if it is split over two texts or two events, if
it is in a compressed file, or if nothing around it shows that it is one (a password in prose). The
result that a call returns to its caller is not redacted; the result in `load_session` and
`return_session=True` is the one that was written.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

import msgspec

from lllm.events import codec
from lllm.events.envelope import Recorded
from lllm.events.errors import ConfigError
from lllm.events.model import Content, Error, Event
from lllm.events.redaction.cut_json import cut, cut_known, payload_may_hold_secret
from lllm.events.redaction.cut_text import without_secrets
from lllm.events.redaction.user_patterns import Pattern
from lllm.events.values.json_values import MARK

Rewrite = Callable[[str, object], object]
Redact = Rewrite | Pattern | Sequence[Rewrite | Pattern]

COUNTS = "$lllm_redacted"

# Matches the annotations of fields of type str.
_QUOTING = {"agent.defined": "system", "llm.refused": "reason", "retry.scheduled": "reason"}
_COLLECTIONS = ("tags", "set", "removed", "tools", "prompts")


def checked(redact: Redact | None) -> Redact | None:
    """Check the argument `redact`, and copy a list of patterns into a tuple.

    Args:
        redact: The user's argument; None for no redaction beyond known secrets.

    Returns:
        The checked value.

    Raises:
        ConfigError: It is not a function, a Pattern or a list of these.
    """
    if redact is None or isinstance(redact, Pattern) or callable(redact):
        return redact
    steps = tuple(redact) if isinstance(redact, Iterable) else (redact,)
    for step in steps:
        if not isinstance(step, Pattern) and not callable(step):
            raise ConfigError(
                "redact is a function of an event's type and payload, or a list of patterns, as "
                f"[EMAIL, CARD, Pattern('ticket', 'T-[0-9]+')]; {step!r} is neither."
            )
    return steps


def payload(event: Event, redact: Redact | None) -> bytes:
    """Encode an event's payload without secrets: known ones first, then what `redact` finds.

    Args:
        event: The event that will be written.
        redact: Functions or patterns that remove parts of payloads; None to remove only known
            secrets.

    Returns:
        The payload as bytes of JSON, ready to be stored.
    """
    data = codec.encode(event)
    try:
        if redact is None and not payload_may_hold_secret(data):
            return data
        return _redacted(event, data, redact)
    except Exception as error:  # a user's function may raise anything
        _warn_once(redact, error)
        bare = codec.encode(without_content(event, type(error).__name__))
        return _redacted(event, bare, None)


def _redacted(event: Event, data: bytes, redact: Redact | None) -> bytes:
    found: Counter[str] = Counter()
    values = _without_secrets(data, found)
    for are_patterns, steps in groupby(_steps(redact), lambda step: isinstance(step, Pattern)):
        if are_patterns:
            patterns = [step for step in steps if isinstance(step, Pattern)]
            values = cut(type(event), values, patterns, found)
            continue
        for step in steps:
            assert not isinstance(step, Pattern)
            rewritten = codec.encode(_with_salt(event, step(event.type, values)))
            values = _without_secrets(rewritten, found)
    msgspec.convert(values, type(event))
    if found:
        values = values | {COUNTS: dict(sorted(found.items()))}
    return codec.encode(values)


def _steps(redact: Redact | None) -> Sequence[Rewrite | Pattern]:
    if redact is None:
        return ()
    return (redact,) if isinstance(redact, Pattern) or callable(redact) else redact


def _without_secrets(data: bytes, found: Counter[str]) -> dict[str, object]:
    """Decode a payload, with marks in place of known secrets."""
    values = codec.values(data)
    if type(values) is not dict:
        raise TypeError(f"the payload of an event is a dict, not {type(values).__name__}")
    if payload_may_hold_secret(data):
        return cut_known(values, found)
    return values


def _with_salt(event: Event, redacted: object) -> object:
    """Put the salt back into a redacted payload.

    The salt is not content, and without it the events of the stream could not be verified.
    """
    salt: bytes | None = getattr(event, "salt", None)
    return redacted if salt is None or type(redacted) is not dict else redacted | {"salt": salt}


def redacted_in(event: Recorded) -> dict[str, int]:
    """Count the secrets that were replaced in an event, by the name of their pattern.

    Args:
        event: The event as read from a log.

    Returns:
        The numbers of marks; empty if none were made.
    """
    if COUNTS.encode() not in event.data:
        return {}
    values = codec.values(event.data)
    counts = values.get(COUNTS) if isinstance(values, dict) else None
    try:
        return msgspec.convert(counts, dict[str, int])
    except msgspec.ValidationError:
        return {}  # not written by lllm


_logger = logging.getLogger("lllm.store")
# the values of `redact` that a warning was logged for, so that each is logged once
_warned: set[int] = set()


def _warn_once(redact: Redact | None, error: Exception) -> None:
    if id(redact) in _warned:
        return
    _warned.add(id(redact))
    what = "the search for secrets" if redact is None else f"redact={redact!r}"
    _logger.warning(
        "%s raised %s or returned no payload, so such events are kept without content: %s",
        what, type(error).__name__, without_secrets(str(error)),
    )  # fmt: skip


def without_content(event: Event, why: str) -> Event:
    """Replace everything in an event that did not come from lllm itself by marks.

    Args:
        event: The event that can't be written as it is.
        why: The name of the error that makes this necessary, for the marks.

    Returns:
        The event without content.
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
