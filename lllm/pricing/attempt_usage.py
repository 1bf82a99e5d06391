"""Reads from an answer, once for all pricing rules, the usage of an attempt that may be billed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import sub
from typing import Literal, NamedTuple

from msgspec.structs import astuple, replace

from lllm.events.model import Content, Usage
from lllm.pricing.billing import Tariff
from lllm.pricing.fees import charges_of
from lllm.pricing.request_media import Sent
from lllm.pricing.service_tiers import tier_in_usage
from lllm.pricing.usage import (
    UnreadableUsageError,
    added,
    message_usage,
    unreadable,
    validation_error,
)
from lllm.pricing.usage_details import INWARD, OUTWARD, with_details

_MEDIA = {"audio": "audio", "image": "an image's", "video": "a film's"}
_BY_SIZE = {"audio": "input_audio_seconds", "image": "input_pixels"}


class SampledUsage(NamedTuple):
    """The usage of one sampling: an attempt may ask the model several times.

    Attributes:
        model: None for the one that answered.
        usage: What it used.
    """

    model: str | None
    usage: Usage


class AttemptUsage:
    """The validated usage of one attempt, and everything else that its price depends on.

    Args:
        usage: In our terms, None where there is none.
        raw: As the provider sent it.
        content: The answer, None for one that did not come.
        model: The one that answered.
        sent: What was asked for that has a price of its own.

    Attributes:
        valid: The usage, None where there is none that makes sense.
        fault: Why there is none, as a sentence; None where there is one.
        charges: What was used beside its tokens.
        sent: As given.
        geo: Where Anthropic says that the model ran, None where nobody does.
        speed: What Anthropic says of the speed, None where nobody does.
        tier: How Vertex served the request, None for the plain way.
    """

    def __init__(
        self, usage: Usage | None, raw: object, content: Content | None, model: str, sent: Sent
    ) -> None:
        self.fault = unreadable(raw) if usage is None else validation_error(usage)
        self.valid = usage if self.fault is None else None
        detailed = with_details(raw)
        self._raw = detailed if isinstance(detailed, dict) else {}
        self.charges = charges_of(self.valid, self._raw, content, model)
        self.sent = sent
        self.geo: object = self._raw.get("inference_geo")
        self.speed: object = self._raw.get("speed")
        self.tier = tier_in_usage(self._raw)
        self._has_audio = any(part.kind == "audio" for part in content.parts) if content else False

    def samplings(self, usage: Usage) -> tuple[list[SampledUsage], bool]:
        """Split the valid usage into samplings of the model; see `samplings_of`.

        Returns:
            The times, and whether each is known, as it is where the model was asked once.

        Raises:
            ValueError: One can't be read; the message is the end of a sentence about it.
        """
        samplings, known = samplings_of(usage, self._raw)
        return samplings, known or not (self.charges.hosted or len(samplings) > 1)

    def uncounted_kind(self, usage: Usage, tariff: Tariff) -> str | None:
        """Find a kind of token that has its own rate but no count in the valid usage.

        Returns:
            What the usage lacks, as the end of a sentence; None where it lacks nothing.
        """
        rates = tariff.texts
        text = rates.get("output")
        image = rates.get("image_out")
        if image not in (None, text) and usage.output and not self._counts("image_tokens"):
            return "does not say how many of the tokens that came out are an image's"
        audio = rates.get("audio_out")
        if audio not in (None, text) and self._has_audio and not usage.audio_out:
            return "does not say how many of the tokens that came out are audio"
        for kind in self.sent.media:
            own = rates.get(f"{kind}_in")
            is_counted = self._counts(f"{kind}_tokens", "in") or not usage.input
            if own not in (None, rates.get("input")) and not is_counted:
                return f"does not say how many of the tokens that went in are {_MEDIA[kind]}"
            unit = _BY_SIZE.get(kind, "")  # Mistral bills audio by the second, beside its tokens
            if unit in tariff.counted and unit not in self.charges.counts:
                return f"does not say how much there was of the {kind} that went in"
        return None

    def _counts(self, name: str, way: Literal["in", "out"] = "out") -> bool:
        """True if the details of the usage have a count."""
        places = [self._raw.get(name) for name in (INWARD if way == "in" else OUTWARD)]
        return any(isinstance(place, dict) and place.get(name) is not None for place in places)


def samplings_of(usage: Usage, raw: object) -> tuple[list[SampledUsage], bool]:
    """Split the usage of an answer into the samplings of the model that it took.

    A usage of Anthropic's may list them as `iterations`; those of an advisor, another model's, are
    in nothing else:
    https://platform.claude.com/docs/en/agents-and-tools/tool-use/advisor-tool

    Args:
        usage: All that the answering model used.
        raw: The usage as the provider sent it.

    Returns:
        The times, and whether each of the answering model's is known.

    Raises:
        ValueError: An iteration can't be read. The message is what it is, as a sentence's end.
    """
    iterations = raw.get("iterations") if isinstance(raw, dict) else None
    if not isinstance(iterations, list) or not iterations:
        return [SampledUsage(None, usage)], False
    turns: list[Usage] = []
    compacted: list[Usage] = []
    others: list[SampledUsage] = []
    for one in iterations:
        place = one if isinstance(one, dict) else {}
        kind, model = place.get("type"), place.get("model")
        try:
            used = message_usage(place)
        except UnreadableUsageError:
            raise ValueError("an iteration of the usage that can't be read") from None
        if kind in ("message", "compaction") and model is None:
            (turns if kind == "message" else compacted).append(used)
        elif isinstance(model, str) and kind in ("message", "advisor_message"):
            others.append(SampledUsage(model, used))
        elif used != Usage():
            raise ValueError(f"an iteration of the kind {str(kind)[:40]!r} in the usage")
    rest = _without(usage, compacted)
    # An iteration does not count reasoning apart.
    known = replace(_without(rest, turns), reasoning=0) == Usage()
    if not known:
        turns = [rest]
    own = [SampledUsage(None, used) for used in (*turns, *compacted)]
    return [*own, *others], known


def _without(whole: Usage, parts: Sequence[Usage]) -> Usage:
    return Usage(*map(sub, astuple(whole), astuple(reduce(added, parts, Usage()))))
