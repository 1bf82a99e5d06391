"""Remembers how earlier request bodies began, so that repeated messages are not parsed again.

With every turn, a client sends the whole conversation again: all of a body except its end was read
before, and is in the log. Digests of a body up to the end of each message tell which bytes those
are; no text is kept. The rest of the body is parsed with a mark in place of the known messages.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from hashlib import sha256
from typing import TYPE_CHECKING

import msgspec

from lllm.events.concurrency.decoders import decoder
from lllm.instrumentation.platform_urls import with_address
from lllm.instrumentation.recorded_endpoints import Operation
from lllm.instrumentation.request_bodies import CapturedRequest, ConversationForm
from lllm.instrumentation.resent_answers import chained, digests_of
from lllm.pricing.request_media import media_in

if TYPE_CHECKING:
    from hashlib import _Hash as HASH  # the standard library has no public name for it

_SHORT = 4_096  # bytes; a shorter body is parsed faster than it is compared
_KEPT = 4  # bodies remembered, so up to as many conversations may take turns
_FEW = 3  # messages at the end that a conversation may have changed
_MARK = secrets.token_hex(16)  # random, so that no body contains it by chance
_MARKED = f'"{_MARK}"'.encode()
_BETWEEN = (b",", b" ", b"\t", b"\r", b"\n")

_decoder = decoder(dict[str, object])
_raw_decoder = decoder(dict[str, msgspec.Raw])
_list_decoder = decoder(list[msgspec.Raw])


class _Begun:
    """The beginning of one request body: where its messages end, and their digests.

    Args:
        form: Where its API puts the conversation in a body.
        start: The offset of its first message, in bytes.
        first: The digest of the messages outside of its list, such as a system prompt.

    Attributes:
        ends: The offset of the end of each message in its list, in bytes.
        digests: The digest of the body up to each of these ends.
        counts: The number of messages in lllm's terms up to each of these ends.
        media: The kinds of media in the messages up to each of these ends.
        beginnings: The digests of the conversation's beginnings; see `Conversations.going_on`.
    """

    def __init__(self, form: ConversationForm, start: int, first: bytes) -> None:
        self.form = form
        self.start = start
        self.first = first
        self.ends: list[int] = []
        self.digests: list[bytes] = []
        self.counts: list[int] = []
        self.media: list[frozenset[str]] = []
        self.beginnings: list[bytes] = []

    def matched(self, content: bytes) -> tuple[int, HASH] | None:
        """Count the messages at the beginning that another body has, too.

        Args:
            content: The bytes of the other body.

        Returns:
            The number of shared messages, and the hash of the other body up to their end; None if
            the bodies are too different to be compared.
        """
        view, ends = memoryview(content), self.ends
        last = len(ends) - 1
        early = min(1, last)
        found = sha256(view[: ends[early]])
        if found.digest() != self.digests[early]:
            return None
        at, near = early, last - _FEW
        if near > at and (ahead := self._further(found, view, at, near)) is not None:
            found, at = ahead, near
        while at < last and (ahead := self._further(found, view, at, at + 1)) is not None:
            found, at = ahead, at + 1
        return at + 1, found

    def _further(self, found: HASH, view: memoryview, at: int, place: int) -> HASH | None:
        """Hash another body up to a later message's end; None if it differs there."""
        further = found.copy()
        further.update(view[self.ends[at] : self.ends[place]])
        return further if further.digest() == self.digests[place] else None

    def upto(self, count: int) -> _Begun:
        """Copy the description of the beginning, up to a number of messages."""
        begun = _Begun(self.form, self.start, self.first)
        begun.ends, begun.digests = self.ends[:count], self.digests[:count]
        begun.counts, begun.media = self.counts[:count], self.media[:count]
        begun.beginnings = self.beginnings[: self.counts[count - 1] + 1]
        return begun


class Body:
    """A parsed request body.

    Attributes:
        asked: The request, with only those of its messages that were not read before.
        beginnings: The digests of the messages that were read before; see
            `Conversations.going_on`.
        media: The kinds of media in the messages that were read before.
        form: Where its API puts the conversation; None if no later body is compared with it.
        content: The bytes of the body, to compare later ones with; None if it is not compared.
        first: The number of messages outside of its list, such as a system prompt.
        counts: The number of messages in lllm's terms for each one that was read from the list.
        before: The part that was read before; None if there is none.
    """

    def __init__(self, asked: CapturedRequest) -> None:
        self.asked = asked
        self.beginnings = [b""]
        self.media: frozenset[str] = frozenset()
        self.form: ConversationForm | None = None
        self.content = b""
        self.first = 0
        self.counts: list[int] = []
        self.before: _Before | None = None


class _Before(msgspec.Struct, frozen=True):
    """The part of a body that an earlier body already had.

    Attributes:
        whole: The earlier body.
        begun: The shared beginning of both bodies.
        upto: The hash of the new body up to the end of that beginning.
    """

    whole: _Begun
    begun: _Begun
    upto: HASH

    @property
    def rest(self) -> int:
        """The offset at which the new part of the body begins."""
        return self.begun.ends[-1]

    def marked(self, content: bytes) -> bytes:
        """Put a mark in place of the messages that an earlier body had."""
        return content[: self.begun.start] + _MARKED + content[self.rest :]


class BodiesBegun:
    """The most recently parsed request bodies of a session.

    Any number of threads may use it. If two bodies are remembered at once, one may be forgotten.
    """

    def __init__(self) -> None:
        self._begun: tuple[_Begun, ...] = ()

    def read(self, content: bytes, operation: Operation, path: str) -> Body:
        """Parse a request body.

        Args:
            content: The body, as JSON.
            operation: The kind of API call.
            path: The path of the URL, percent-encoded.

        Returns:
            The parsed body.

        Raises:
            msgspec.DecodeError: The body is not a JSON object.
        """
        form = operation.form
        if form is None or len(content) < _SHORT:
            return Body(operation.reads(with_address(_decoder.decode(content), path)))
        for begun in self._begun:
            matched = begun.matched(content) if begun.form is form else None
            if matched is not None:
                count, upto = matched
                before = _Before(begun, begun.upto(count), upto)
                body = _read_rest(content, before, form, path)
                if body is not None:
                    return body
        return _read(content, _decoder.decode(content), form, path)

    def remember(self, body: Body) -> None:
        """Remember a body to compare later ones with; all its messages must be in the log."""
        begun = _begun_of(body)
        if begun is None or not begun.ends:
            return
        gone_on = body.before.whole if body.before is not None else None
        if gone_on is not None and begun.ends[: len(gone_on.ends)] != gone_on.ends:
            gone_on = None  # another continuation of the same conversation: both may continue
        self._begun = (begun, *[one for one in self._begun if one is not gone_on][: _KEPT - 1])


def _read(
    content: bytes,
    decoded: Mapping[str, object],
    form: ConversationForm,
    path: str,
    before: _Before | None = None,
) -> Body:
    """Read a decoded body, in whose list a mark stands for the messages that were read before."""
    said = decoded.get(form.key)
    items = said if isinstance(said, list) else []
    contents = form.first(decoded) if before is None else []
    first, counts = len(contents), []
    for item in items if before is None else items[1:]:
        read = form.each(item)
        contents += read
        counts.append(len(read))
    body = Body(form.asked(with_address(decoded, path), contents))
    if items:
        body.form, body.content = form, content
        body.first, body.counts, body.before = first, counts, before
    return body


def _read_rest(content: bytes, before: _Before, form: ConversationForm, path: str) -> Body | None:
    """Read the new part of a body; None if the shared part turns out not to be its messages."""
    decoded = _decoder.decode(before.marked(content))
    items = decoded.get(form.key)
    # The marked messages may be in another list, or in one of two of which the last counts.
    if not isinstance(items, list) or items[:1] != [_MARK]:
        return None
    if _first(form, decoded) != before.begun.first:
        return None
    body = _read(content, decoded, form, path, before)
    body.beginnings, body.media = [*before.begun.beginnings], before.begun.media[-1]
    return body


def _first(form: ConversationForm, decoded: Mapping[str, object]) -> bytes:
    """Make the digest of the messages that a body has outside of its list."""
    found = b""
    for one in form.first(decoded):
        found = chained(found, digests_of(one)[1])
    return found


def _begun_of(body: Body) -> _Begun | None:
    """Describe the beginning of a body; None if its list isn't where it is expected."""
    form, content, before = body.form, body.content, body.before
    if form is None:
        return None
    if before is not None:
        begun, hashed, end = before.begun, before.upto, before.rest
        items = _items(before.marked(content), form)[1:]
        total, media = begun.counts[-1], begun.media[-1]
    else:
        opening = _start_of_list(content, form.key)
        if opening is None:
            return None
        end, begun = opening, _Begun(form, opening, body.beginnings[body.first])
        hashed = sha256(memoryview(content)[:end])
        items = _items(content, form)
        total, media = body.first, frozenset()
    begun.beginnings = body.beginnings
    contents = iter(body.asked.contents[body.first :])
    for item, count in zip(items, body.counts, strict=True):
        raw, start = bytes(item), end
        while content[start : start + 1] in _BETWEEN:
            start += 1
        if not (raw.endswith(b"}") and content.startswith(raw, start)):
            break  # the end of this message is not certain
        hashed = hashed.copy()
        hashed.update(content[end : start + len(raw)])
        end = start + len(raw)
        total += count
        media = media.union(*(media_in(next(contents)) for _ in range(count)))
        begun.ends.append(end)
        begun.digests.append(hashed.digest())
        begun.counts.append(total)
        begun.media.append(media)
    return begun


def _items(content: bytes, form: ConversationForm) -> list[msgspec.Raw]:
    return _list_decoder.decode(_raw_decoder.decode(content)[form.key])


def _start_of_list(content: bytes, key: str) -> int | None:
    """Find the offset at which the list of messages may begin; None if there is no candidate.

    The caller detects a wrong candidate by its items: the mark does not appear among the messages.
    """
    name = f'"{key}":['.encode()
    found = content.find(name)
    return None if found < 0 else found + len(name)
