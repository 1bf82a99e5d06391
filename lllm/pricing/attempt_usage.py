"""Reads the usage of a billed attempt from its answer, once for all pricing rules."""

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
    """The usage of one sampling of a model; one attempt may sample several times.

    Attributes:
        model: The name of the sampled model; None for the model that answered.
        usage: The tokens of this sampling.
    """

    model: str | None
    usage: Usage


class AttemptUsage:
    """The validated usage of one attempt, and everything else that its price depends on.

    Args:
        usage: The usage in lllm's terms; None if there is none.
        raw: The usage as the provider sent it.
        content: The answer; None if none arrived.
        model: The model that answered.
        sent: The media and the service tier of the request.

    Attributes:
        valid: The usage; None if it is missing or contradicts itself.
        fault: A sentence that says why `valid` is None; None otherwise.
        charges: The billed items other than tokens, such as web searches.
        sent: The media and the service tier of the request.
        geo: The `inference_geo` of Anthropic's usage; None if the usage has none.
        speed: The `speed` of Anthropic's usage; None if the usage has none.
        tier: The way in which Vertex served the request, such as "flex"; None for the default.
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
        """Split the valid usage into one usage for each sampling of the model.

        Returns:
            The samplings, and True if the usage of each is known; it is if there was only one.

        Raises:
            ValueError: An iteration in the usage can't be read; the message is a noun phrase for
                it.
        """
        samplings, known = samplings_of(usage, self._raw)
        return samplings, known or not (self.charges.hosted or len(samplings) > 1)

    def uncounted_kind(self, usage: Usage, tariff: Tariff) -> str | None:
        """Find a kind of token that has its own rate but that the valid usage does not count.

        Returns:
            The end of a sentence that begins "The usage ..."; None if every kind is counted.
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
        """True if the details of the usage have the count that is named."""
        places = [self._raw.get(name) for name in (INWARD if way == "in" else OUTWARD)]
        return any(isinstance(place, dict) and place.get(name) is not None for place in places)


def samplings_of(usage: Usage, raw: object) -> tuple[list[SampledUsage], bool]:
    """Split the usage of an answer into one usage for each sampling of the model.

    Anthropic's usage may list the samplings as `iterations`. The tokens of an advisor, which is a
    second model, are only found there:
    https://platform.claude.com/docs/en/agents-and-tools/tool-use/advisor-tool

    Args:
        usage: The total usage of the model that answered.
        raw: The usage as the provider sent it.

    Returns:
        The samplings, and True if each sampling of the answering model is known.

    Raises:
        ValueError: An iteration can't be read; the message is a noun phrase for it.
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
    # An iteration has no count of its reasoning tokens.
    known = replace(_without(rest, turns), reasoning=0) == Usage()
    if not known:
        turns = [rest]
    own = [SampledUsage(None, used) for used in (*turns, *compacted)]
    return [*own, *others], known


def _without(whole: Usage, parts: Sequence[Usage]) -> Usage:
    return Usage(*map(sub, astuple(whole), astuple(reduce(added, parts, Usage()))))
