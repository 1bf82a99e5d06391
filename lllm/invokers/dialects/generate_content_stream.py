"""Joins the chunks of a streamed answer of Google's generateContent API.

Each chunk is a whole answer with the parts that are new; its usage counts everything so far:
https://ai.google.dev/api/generate-content#method:-models.streamgeneratecontent
"""

from __future__ import annotations

from collections.abc import Mapping

from lllm.invokers.dialects.growing_fields import GrowingText
from lllm.invokers.dialects.provider_json import items, mapping, text
from lllm.invokers.http.errors import from_event

_TEXTS = {"text", "thought", "thoughtSignature"}


class GenerateContentStream:
    """Joins the chunks of a streamed answer of generateContent; see Assembly."""

    def __init__(self) -> None:
        self._whole: dict[str, object] = {}
        self._candidates: dict[int, _Candidate] = {}

    @property
    def begun(self) -> bool:
        """True if any part has arrived."""
        return any(one.parts for one in self._candidates.values())

    @property
    def complete(self) -> bool:
        """True if each candidate has the reason why it stopped, or the prompt was refused."""
        refused = "blockReason" in mapping(self._whole.get("promptFeedback"))
        stopped = [one.is_finished for one in self._candidates.values()]
        return all(stopped) if stopped else refused

    @property
    def settled(self) -> bool:
        """True if the usage is final."""
        return self.complete

    def take(self, event: Mapping[str, object]) -> str:
        """Add the next chunk; see Assembly."""
        if event.get("error"):
            raise from_event(event)
        self._whole |= {name: value for name, value in event.items() if name != "candidates"}
        came = ""
        for place, given in enumerate(items(event.get("candidates"))):
            candidate = mapping(given)
            number = candidate.get("index", place)
            index = number if isinstance(number, int) else place
            said = self._candidates.setdefault(index, _Candidate()).take(candidate)
            came += said if index == 0 else ""
        return came

    def body(self) -> dict[str, object]:
        """Join what has arrived; see Assembly."""
        if not self._whole and not self._candidates:
            return {}
        candidates = [one.body() for _, one in sorted(self._candidates.items())]
        return {"candidates": candidates, **self._whole} if candidates else dict(self._whole)


class _Part:
    """A part as far as it has arrived; the text of a part may come in several chunks."""

    def __init__(self, piece: Mapping[str, object]) -> None:
        self._fields = dict(piece)
        self._text: GrowingText | None = None
        if "text" in piece and piece.keys() <= _TEXTS:
            self._text = GrowingText()
            self._text.append(text(piece["text"]) or "")

    def grow(self, piece: Mapping[str, object]) -> bool:
        """Add the next piece of the text; False if it is another part."""
        grows = self._text is not None and "text" in piece and piece.keys() <= _TEXTS
        same = self._fields.get("thought") == piece.get("thought")
        if not (grows and same) or "thoughtSignature" in self._fields or self._text is None:
            return False
        self._text.append(text(piece["text"]) or "")
        self._fields |= {name: value for name, value in piece.items() if name != "text"}
        return True

    def body(self) -> dict[str, object]:
        """The part in Google's form."""
        return self._fields if self._text is None else {**self._fields, "text": self._text.text()}


class _Candidate:
    """One candidate as far as it has arrived."""

    def __init__(self) -> None:
        self.parts: list[_Part] = []
        self._fields: dict[str, object] = {}

    @property
    def is_finished(self) -> bool:
        """True if the reason why it stopped is known."""
        return self._fields.get("finishReason") is not None

    def take(self, candidate: Mapping[str, object]) -> str:
        """Add what a chunk has of the candidate; returns its text."""
        self._fields |= {name: value for name, value in candidate.items() if name != "content"}
        came = ""
        for given in items(mapping(candidate.get("content")).get("parts")):
            piece = mapping(given)
            if not (self.parts and self.parts[-1].grow(piece)):
                self.parts.append(_Part(piece))
            if piece.get("thought") is not True:
                came += text(piece.get("text")) or ""
        return came

    def body(self) -> dict[str, object]:
        """The candidate in Google's form."""
        content = {"role": "model", "parts": [one.body() for one in self.parts]}
        return {"content": content, **self._fields}
