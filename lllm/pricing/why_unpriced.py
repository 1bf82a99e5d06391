"""Says why the price data can't price an attempt.

One missing rate makes the whole attempt unpriced: a sum without one of its parts would be too low,
and nobody could see that it is.
"""

from __future__ import annotations

from lllm.events.model import Price, Usage
from lllm.pricing import genai_prices
from lllm.pricing.billing import Tariff
from lllm.pricing.genai_prices import Listed
from lllm.pricing.regional_rates import made_elsewhere

_WHO_BILLS = (
    ' Where a provider bills it all the same, name it: capture(client, provider="openai"), the key '
    '"provider" of an agent\'s config, OpenAIInvoker(provider=...), or LLLM_PROVIDER.'
)


class NoRateError(LookupError):
    """The price data has no price for something in an attempt.

    Args:
        fault: The end of a sentence that begins with the name of the price data, such as "lists no
            model ...".
        model: The model whose rates are missing; "" until `listed_price` sets it.
        advice: A sentence that says what else the user can do; "" for none.
    """

    def __init__(self, fault: str, model: str = "", advice: str = "") -> None:
        super().__init__(fault)
        self.model = model
        self.advice = advice


def unpriced(error: NoRateError) -> Price:
    """Make the price of an attempt that the price data can't price.

    Args:
        error: The reason, with the model whose rates are missing.

    Returns:
        A price without a cost; its reason also says what the user can do.
    """
    version = genai_prices.version()
    return Price(
        "unpriced",
        source=genai_prices.SOURCE,
        source_version=version,
        reason=f"{genai_prices.SOURCE} {version} {error}. Say what it costs with LogStore(..., "
        f'prices={{{error.model!r}: {{"input": ..., "output": ...}}}}) in US dollars for a '
        f"million tokens, or 0 if it costs nothing.{error.advice}",
    )


def dearer_when_long(provider: str, model: str, at: int, tokens: int) -> str | None:
    """Explain that the maker of a model charges more for long requests than these rates do.

    https://aws.amazon.com/bedrock/pricing/ has rates for long contexts; the price data does not.

    Args:
        provider: The provider that bills, by its name in genai-prices.
        model: The model that answered.
        at: The time at which the attempt began, nanoseconds UTC.
        tokens: The number of input tokens.

    Returns:
        The fault, as in NoRateError; None if the maker charges no more.
    """
    maker = made_elsewhere(provider, model)
    own = genai_prices.find(*maker) if maker else None
    if own is None or own.tariffs(at).of(tokens) == own.tariffs(at).by_length[0]:
        return None
    return f"has no rates for long requests of {model}, for which its maker charges more"


def missing_rate(usage: Usage, found: Listed, tariff: Tariff) -> str | None:
    """Find a kind of token in a usage, input or output, that has no rate.

    Args:
        usage: The usage of the attempt.
        found: The model in the price data.
        tariff: Its rates at the time of the attempt.

    Returns:
        The fault, as in NoRateError; None if each kind has a rate.
    """
    names = tariff.texts
    if "input" not in names and "output" not in names:
        return f"lists {found.name} without a price for tokens"
    for name, tokens in (("input", usage.input), ("output", usage.output)):
        if tokens and name not in names:
            return f"lists {found.name} without a price for {name} tokens"
    return None


def unlisted(provider: str, model: str) -> NoRateError:
    """Make the error for a model that the price data does not have.

    Args:
        provider: The provider that bills, by its name in genai-prices.
        model: The model that answered.

    Returns:
        The error, to be raised.
    """
    whose = f" of provider {provider!r}" if provider else ""
    # A well-known model at an unknown address: the user has to say who bills.
    is_famous = not genai_prices.is_known(provider) and genai_prices.find("", model) is not None
    return NoRateError(f"lists no model {model!r}{whose}", model, _WHO_BILLS if is_famous else "")
