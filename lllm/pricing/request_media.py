"""Finds the media in a request, since some kinds of media cost more per token than text.

An answer should count the tokens of each kind. If it does not count a kind that was sent, the cost
of the attempt is unknown.
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
_DEEPEST = 6  # levels of nesting that are searched in a part's JSON
_WITHOUT_MEDIA = frozenset({"text", "reasoning", "refusal", "tokens", "name"})
_NO_MEDIA: frozenset[str] = frozenset()


class Sent(msgspec.Struct, frozen=True):
    """The media and the service tier that a request asks for.

    Attributes:
        media: The kinds of media (of `MEDIA`) that were sent, or may have been.
        tier: The requested service tier; None for the default one.
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
        contents: The messages of the request.
        params: The other parameters of the request, by the provider's names.
        before: The kinds of media in earlier messages that are sent along.

    Returns:
        The media and the tier; `NOTHING` if there are neither.
    """
    # Most messages are only text, and a long conversation sends all of them each time.
    others = [one for one in contents for part in one.parts if part.kind not in _WITHOUT_MEDIA]
    media = before.union(*map(media_in, others))
    tier = tier_in_params(params)
    return Sent(tuple(sorted(media)), tier) if media or tier else NOTHING


def media_in(content: Content) -> frozenset[str]:
    """Find the kinds of media that a message has, or may have.

    Args:
        content: The message to look through.

    Returns:
        Some of `MEDIA`, or an empty set.
    """
    media = _NO_MEDIA
    for part in content.parts:
        if part.kind not in _WITHOUT_MEDIA:
            media |= _media_of(part)
    return media


def _media_of(part: Part) -> set[str]:
    """Find the kinds of media that a part has, or may have."""
    mime = part.mime or next(_mimes(part.data, guess=part.kind not in MEDIA), None)
    kind, _, name = (mime or "").partition("/")
    if kind == "video" or "video" in part.kind:
        return {"audio", "video"}  # most films have sound
    if kind in ("audio", "image"):
        return {kind}
    if kind == "text":
        return set()
    if kind == "application":
        # Providers read the pages of a document as images.
        return {"image"} if name == "pdf" else set()
    if part.kind == "file":
        return {*MEDIA}  # a part of an unknown type may have any of them
    return {part.kind} if part.kind in MEDIA else set()


def _mimes(data: object, depth: int = 0, *, guess: bool) -> Iterator[str]:
    """Yield the media types that a part's JSON names, the most reliable first.

    With `guess`, the extensions of file names count, too.
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
