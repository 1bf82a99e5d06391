"""Finds the media in a request, since the tokens of some kinds cost more than those of text.

An answer should say how many tokens of each kind there were. Where it says nothing of what was
sent, nobody knows what it cost.
"""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from lllm.events.model import Content, Part
from lllm.pricing.service_tiers import tier_in_params

MEDIA = ("audio", "image", "video")
_MIME = re.compile(r"(?:data:)?((?:audio|image|video|text|application)/[\w.+-]+)", re.ASCII)
_MIME_KEYS = ("mime_type", "media_type", "mimeType", "format")
_NAMES = ("filename", "name", "url", "uri", "file_uri", "file_url")
_DEEPEST = 6  # levels of a part's JSON that are looked through
_WITHOUT_MEDIA = frozenset({"text", "reasoning", "refusal", "tokens", "name"})
_NO_MEDIA: frozenset[str] = frozenset()


class Sent(msgspec.Struct, frozen=True):
    """The media and the service tier that a request asks for.

    Attributes:
        media: Those of MEDIA that were sent, or may have been.
        tier: A service tier other than the plain one, None for that.
    """

    media: tuple[str, ...] = ()
    tier: str | None = None


NOTHING = Sent()


def sent_in(
    contents: Iterable[Content],
    params: Mapping[str, object],
    *,
    before: frozenset[str] = frozenset(),
) -> Sent:
    """Find the media and the service tier in a request.

    Args:
        contents: The messages that are sent.
        params: What else the provider is told, by its names.
        before: The media of messages that are sent before these.

    Returns:
        The media and the tier; `NOTHING` for neither.
    """
    # Most messages are text alone, and a long conversation sends all of them each time.
    others = [one for one in contents for part in one.parts if part.kind not in _WITHOUT_MEDIA]
    media = before.union(*map(media_in, others))
    tier = tier_in_params(params)
    return Sent(tuple(sorted(media)), tier) if media or tier else NOTHING


def media_in(content: Content) -> frozenset[str]:
    """Find the kinds of media that a message has or may have.

    Args:
        content: The message.

    Returns:
        Those of MEDIA.
    """
    media = _NO_MEDIA
    for part in content.parts:
        if part.kind not in _WITHOUT_MEDIA:
            media |= _media_of(part)
    return media


def _media_of(part: Part) -> set[str]:
    """Find the kinds of media that a part has or may have."""
    mime = part.mime or next(_mimes(part.data, guess=part.kind not in MEDIA), None)
    kind, _, name = (mime or "").partition("/")
    if kind == "video" or "video" in part.kind:
        return {"audio", "video"}  # most films have sound
    if kind in ("audio", "image"):
        return {kind}
    if kind == "text":
        return set()
    if kind == "application":
        # Pages are read as images.
        return {"image"} if name == "pdf" else set()
    if part.kind == "file":
        return {*MEDIA}  # which only its provider knows
    return {part.kind} if part.kind in MEDIA else set()


def _mimes(data: object, depth: int = 0, *, guess: bool) -> Iterator[str]:
    """Yield the media types that a part's JSON names, the surest first.

    `guess` has the endings of names count, too.
    """
    if isinstance(data, str):
        found = _MIME.match(data) if data.startswith("data:") else None
        if found is not None:
            yield found[1]
        return
    if not isinstance(data, dict) or depth > _DEEPEST:
        return
    for key in _MIME_KEYS:
        said = data.get(key)
        found = _MIME.match(said) if isinstance(said, str) else None
        if found is not None:
            yield found[1]
    for value in data.values():
        yield from _mimes(value, depth + 1, guess=guess)
    for key in _NAMES if guess else ():
        said = data.get(key)
        if isinstance(said, str) and not said.startswith("data:"):
            guessed = mimetypes.guess_type(said[:2_000], strict=False)[0]
            if guessed is not None and _MIME.match(guessed):
                yield guessed
