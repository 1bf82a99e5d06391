"""Finds the billed items of an attempt that its usage does not count as tokens.

The items are found in the recorded event: in the usage as the provider sent it, and in the parts of
the answer, which include the calls of hosted tools. An item that genai-prices has a unit for is
counted by that unit's name. Every other number above zero and every call of an unknown tool is
listed as unknown, and makes the attempt unpriced.

The fees are those of https://developers.openai.com/api/docs/pricing and
https://platform.claude.com/docs/en/about-claude/pricing (both as read on 2026-11-26).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from decimal import Decimal

from lllm.events.model import Content, Usage
from lllm.pricing.amounts import number
from lllm.pricing.billing import NOTHING, Charges
from lllm.pricing.usage_details import INWARD, OUTWARD

# Counts that `lllm.pricing.usage` reads as tokens, or that are part of such counts.
_READ = frozenset({
    "prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "total_tokens",
    "reasoning_tokens", "thinking_tokens", "text_tokens",
    "cached_tokens", "num_cached_tokens", "prompt_cache_hit_tokens", "prompt_cache_miss_tokens",
    "cache_read_input_tokens", "cache_creation_input_tokens", "cache_creation_tokens",
    "cache_write_tokens", "ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens",
    # included in the output: https://developers.openai.com/api/docs/guides/predicted-outputs
    "accepted_prediction_tokens", "rejected_prediction_tokens",
    # https://ai.google.dev/api/generate-content#UsageMetadata
    "promptTokenCount", "candidatesTokenCount", "totalTokenCount", "thoughtsTokenCount",
    "cachedContentTokenCount", "toolUsePromptTokenCount",
})  # fmt: skip
# Numbers that cost nothing: durations, rates, and a gateway's figures of money beside `cost`.
_FREE = frozenset({
    "queue_time", "prompt_time", "completion_time", "total_time", "ttft", "created",
    "tokens_per_second", "cost_in_usd_ticks", "estimated_cost", "market_cost",
    # Fetching and finding tools cost only their tokens:
    # https://platform.claude.com/docs/en/agents-and-tools/tool-use/web-fetch-tool
    "web_fetch_requests", "tool_search_requests",
    # OpenRouter's; their fees are counted by the names of the tools
    "tool_calls_requested", "tool_calls_executed",
})  # fmt: skip
_FREE_ENDINGS = ("_ms", "_latency", "_per_second", "_per_sec")
# Figures of money; `provider_bill` reads them.
_MONEY = frozenset({"cost", "cost_details", "pydantic_ai_gateway"})
# The providers' names for units of genai-prices.
_UNITS = {
    "web_search_requests": "web_searches",  # Anthropic's server_tool_use, OpenRouter's details
    "num_search_queries": "web_searches",  # https://docs.perplexity.ai/getting-started/pricing
    "citation_tokens": "output_citation_tokens",
    "prompt_audio_seconds": "input_audio_seconds",  # https://docs.mistral.ai/api/#tag/chat
    "image_pixels": "input_pixels",  # https://docs.voyageai.com/docs/multimodal-embeddings
}
_MODALITIES = {"image_tokens": "image", "video_tokens": "video"}

# Items of an answer that cost only tokens: tools that the caller runs, and texts.
_FREE_CALLS = frozenset({
    "function_call", "custom_tool_call", "mcp_call", "mcp_approval_request", "local_shell_call",
    "apply_patch_call", "tool_search_call", "program_call",
})  # fmt: skip
_FREE_SERVER_TOOLS = (
    "web_fetch", "tool_search_tool", "advisor",  # the advisor's tokens are in `iterations`
)  # fmt: skip
_CODE_TOOLS = ("code_execution", "bash_code_execution", "text_editor_code_execution")
# Models that search the web in each call, for a fee that no usage counts.
_SEARCHING_MODELS = ("-search-preview", "-search-api")


def charges_of(
    usage: Usage | None, raw: Mapping[str, object], content: Content | None, model: str
) -> Charges:
    """Find the billed items of an attempt other than its tokens.

    Args:
        usage: The usage in lllm's terms; None if it is missing or contradicts itself.
        raw: The usage as the provider sent it, with details as counts by name.
        content: The answer; None if none arrived.
        model: The model that answered.

    Returns:
        The billed items; `NOTHING` if only tokens were used.
    """
    counts: Counter[str] = Counter()
    tools = raw.get("server_tool_use")  # Anthropic's count of the hosted tools that it ran
    hosted = isinstance(tools, dict) and any(map(_is_above_zero, tools.values()))
    found: dict[str, Decimal] = {}
    unknown: dict[str, None] = {}  # used as an ordered set
    for name, where, value in _numbers(raw):
        unit = _unit(name, where)
        exact = number(value)
        if unit is None or exact is None:
            shown = ".".join((*where, name))
            unknown[f"{shown[:80]} of the usage"] = None
        else:
            # A usage may have the same number in two places.
            found[unit] = max(found.get(unit, exact), exact)
    beside = _beside_the_total(usage, raw, found)
    if beside:
        unknown[f"the {beside} tokens that total_tokens has beyond input and output"] = None
    for part in content.parts if content else ():
        item = part.data if isinstance(part.data, dict) else {}
        tool = _tool_of(part.kind, item, raw, found)
        hosted = hosted or tool is not None or part.kind in _HOSTED
        if tool is None:
            continue
        if tool in _COUNTED_TOOLS:
            counts[tool] += 1
        else:
            unknown[tool] = None
    for unit, calls in counts.items():
        found[unit] = max(found.get(unit, Decimal(calls)), Decimal(calls))
    if any(name in model for name in _SEARCHING_MODELS):
        found.pop("web_searches", None)
        unknown["the web search that each call of this model makes"] = None
    return Charges(found, tuple(unknown), hosted) if found or unknown or hosted else NOTHING


_COUNTED_TOOLS = ("web_searches", "storage_searches")
_HOSTED = ("web_search_call", "server_tool_use", "mcp_call", "mcp_tool_use")


def _tool_of(
    kind: str, item: Mapping[str, object], raw: Mapping[str, object], found: Mapping[str, Decimal]
) -> str | None:
    """Find the billing unit of a hosted tool from a part of the answer.

    Returns the end of a sentence for a tool without a unit, and None for a part that costs nothing.
    """
    if kind == "web_search_call":
        action = item.get("action")
        # Only searches are billed; opening a page and finding text in it are free.
        searched = not isinstance(action, dict) or action.get("type", "search") == "search"
        return "web_searches" if searched else None
    if kind == "file_search_call":
        return "storage_searches"
    if kind == "groundingMetadata":
        # A search has a fee, of which some are free each day: https://ai.google.dev/pricing
        return "the search by which Google grounded the answer"
    if kind == "amazon-bedrock-guardrailAction":
        # Billed by the length of the text that it checks: https://aws.amazon.com/bedrock/pricing/
        return "the guardrail of the answer"
    if kind == "server_tool_use":
        return _server_tool(str(item.get("name") or ""), raw, found)
    if kind == "executed_tools" or (kind.endswith("_call") and kind not in _FREE_CALLS):
        return f"the {kind} in the answer"
    return None


def _server_tool(name: str, raw: Mapping[str, object], found: Mapping[str, Decimal]) -> str | None:
    """Find the billing unit of a hosted tool of Anthropic."""
    if name == "web_search":
        return None if isinstance(raw.get("server_tool_use"), dict) else "web_searches"
    if name in _CODE_TOOLS:
        # Free together with a search or a fetch, otherwise billed by the hour of a container:
        # https://platform.claude.com/docs/en/agents-and-tools/tool-use/code-execution-tool
        tools = raw.get("server_tool_use")
        fetched = tools.get("web_fetch_requests") if isinstance(tools, dict) else 0
        return None if found.get("web_searches") or fetched else f"the {name} in the answer"
    if name == "advisor" and not isinstance(raw.get("iterations"), list):
        return "the advisor in the answer"
    return None if name.startswith(_FREE_SERVER_TOOLS) else f"the {name[:40]} in the answer"


def _unit(name: str, where: tuple[str, ...]) -> str | None:
    """Find the billing unit for a number in a usage; None if unknown."""
    if name in _MODALITIES and len(where) == 1 and where[0] in (*INWARD, *OUTWARD):
        way = "input" if where[0] in INWARD else "output"
        return f"{way}_{_MODALITIES[name]}_tokens"
    return _UNITS.get(name)


def _numbers(raw: Mapping[str, object]) -> Iterator[tuple[str, tuple[str, ...], object]]:
    """Yield the numbers of a usage, except zeros and those known as free or as tokens.

    Each is yielded as its name, the names of the objects around it, and its value.
    """
    waiting: list[tuple[tuple[str, ...], object]] = [((), raw)]
    seen: set[int] = set()  # a user's own invoker may give an object that contains itself
    while waiting:
        where, place = waiting.pop(0)
        if isinstance(place, dict | list):
            if id(place) not in seen:
                seen.add(id(place))
                waiting += _members(where, place)
        elif _is_above_zero(place) and not _is_known(where[-1], where[:-1]):
            yield where[-1], where[:-1], place


def _members(
    where: tuple[str, ...], place: dict[object, object] | list[object]
) -> Iterator[tuple[tuple[str, ...], object]]:
    if isinstance(place, list):
        yield from ((where, one) for one in place)
        return
    for name, value in place.items():
        if name not in _MONEY:
            yield (*where, str(name)), value


def _is_above_zero(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value != 0


def _is_known(name: str, where: tuple[str, ...]) -> bool:
    if name == "audio_tokens":  # counted as tokens only within the details
        return len(where) == 1 and where[0] in (*INWARD, *OUTWARD)
    return name in _READ or name in _FREE or name.endswith(_FREE_ENDINGS)


def _beside_the_total(
    usage: Usage | None, raw: Mapping[str, object], found: Mapping[str, Decimal]
) -> int:
    """Count the tokens in the total that are neither input nor output."""
    total = raw.get("total_tokens")
    if usage is None or not isinstance(total, int):
        return 0
    cited = int(found.get("output_citation_tokens", 0))
    return max(0, total - usage.input - usage.output - cited)
