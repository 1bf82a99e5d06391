"""Prices given by the user: a table of models, or a function.

`LogStore(backend, prices={"my-model": {"input": 0.5, "output": 1.5}})` prices models that the price
data does not know, or that a contract prices differently. These prices win over the price data and
over the cost that a provider sends; models that they do not name are priced as usual.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation

from lllm.events.errors import ConfigError
from lllm.events.model import TOOLS, Price, Usage
from lllm.events.redaction.cut_text import without_secrets
from lllm.pricing.amounts import nanos_of, number
from lllm.pricing.billing import (
    COUNTED,
    NOTHING,
    UNITS,
    Charges,
    Tariff,
    bill,
)

Number = int | float | Decimal | str
Rates = Mapping[str, Number]
PriceFunction = Callable[[str, Usage, str], int | float | Decimal | None]
Prices = Mapping[str, Rates | Number] | PriceFunction

SOURCE = "user"
_NEEDED = ("input", "output")
# US dollars for one item, by the unit's name in genai-prices.
_TOOLS = {kind.name: unit for unit, kind in COUNTED.items() if kind.name in TOOLS}
_FOR_ONE = ("request", *_TOOLS)
_KNOWN = (*sorted(unit.name for unit in UNITS), *_FOR_ONE)
_FREE = Tariff((), None, {})
_LEAST, _MOST = -15, 9  # orders of magnitude of a valid price in US dollars

_logger = logging.getLogger("lllm.pricing")
_logger.addHandler(logging.NullHandler())  # silent until setup_logging, or a root handler


class PriceTable:
    """The user's own prices of models; make one with `PriceTable.of`.

    Args:
        entries: The rates of each model, by its name or by the beginning of its name.
        function: The user's function that prices calls; None to use the entries.
    """

    def __init__(self, entries: Mapping[str, Tariff], function: PriceFunction | None) -> None:
        ends = {name[:-1]: entry for name, entry in entries.items() if name.endswith("*")}
        self._exact = {name: entry for name, entry in entries.items() if not name.endswith("*")}
        self._prefixes = sorted(ends.items(), key=lambda item: len(item[0]), reverse=True)
        self._function = function
        self._warned = False
        self.version = None if function else _digest(entries)

    @classmethod
    def of(cls, given: object) -> PriceTable:
        """Make a table from the prices that a user gives.

        Args:
            given: A dict of a model's name to its rates in US dollars for a million tokens, as
                numbers or as texts of numbers. "input" and "output" are required. The optional
                rates (cache_read, cache_write, cache_write_1h, reasoning, audio_in, audio_out)
                default to those of input and output. "request" is US dollars for each call;
                "web_search", "file_search", "social_search" and "code_execution" are US dollars
                for each use of a tool that the provider runs, and default to the price data. 0 or
                "free" in place of rates means that the model costs nothing. A name is "model" or
                "provider/model", and may end with "*" to match all names with that beginning; an
                exact name wins, then the longest beginning. Instead of a dict, `given` may be a
                function of model, usage and provider that returns US dollars, or None for a model
                that it does not know.

        Returns:
            The table; a PriceTable is returned unchanged.

        Raises:
            ConfigError: A price is not valid; the message names the model and the unit.
        """
        if isinstance(given, PriceTable):
            return given
        if isinstance(given, Mapping):
            return cls({_name(name): _entry(name, rates) for name, rates in given.items()}, None)
        if callable(given):
            return cls({}, given)
        raise ConfigError(
            'prices is a dict, as {"my-model": {"input": 0.5, "output": 1.5}}, in US dollars for '
            f"a million tokens, or a function of model, usage and provider; not {given!r}."
        )

    def __repr__(self) -> str:
        if self._function is not None:
            return f"PriceTable({self._function!r})"
        return f"PriceTable({len(self._exact) + len(self._prefixes)} models)"

    def price(
        self,
        usage: Usage | None,
        *,
        provider: str,
        model: str,
        asked: str | None = None,
        charges: Charges = NOTHING,
        fees: Mapping[str, Decimal] | None = None,
    ) -> Price | None:
        """Price one attempt by the user's prices. It raises nothing.

        Args:
            usage: The usage of the attempt; None if it is missing, or fails
                `lllm.pricing.usage.validation_error`.
            provider: The provider that bills.
            model: The model that answered.
            asked: The requested model, whose entry applies if `model` has none; None if unknown.
            charges: The billed items other than tokens.
            fees: US dollars for one such item, used if the table does not name it.

        Returns:
            The price; None if the user's prices do not know the model.
        """
        if self._function is not None:
            return self._price_by_function(self._function, usage, provider, model)
        found = self._find(provider, model) or (self._find(provider, asked) if asked else None)
        if found is None:
            return None
        if found == _FREE:  # compared by value: it may come from another process
            reason = "The prices given to the store say that it costs nothing."
            return Price("free", nanos=0, source=SOURCE, source_version=self.version, reason=reason)
        if usage is None:
            return None
        if charges.counts and fees:
            found = found._replace(counted={**fees, **found.counted})
        return bill(usage, found, source=SOURCE, version=self.version, charges=charges)

    def _find(self, provider: str, model: str) -> Tariff | None:
        for name in (f"{provider}/{model}", model):
            if name in self._exact:
                return self._exact[name]
        for beginning, entry in self._prefixes:
            if model.startswith(beginning) or f"{provider}/{model}".startswith(beginning):
                return entry
        return None

    def _price_by_function(
        self, function: PriceFunction, usage: Usage | None, provider: str, model: str
    ) -> Price | None:
        if usage is None:
            return None
        try:
            dollars = function(model, usage, provider)
        except Exception as error:  # the function is the user's, and may raise anything
            return self._unpriced(f"raised {_error_text(error)}", model)
        if dollars is None:
            return None
        exact = number(dollars)
        nanos = None if exact is None else nanos_of(exact)
        if nanos is None:
            return self._unpriced(f"returned {_safe_repr(dollars)}, no number of US dollars", model)
        return Price("priced", nanos=nanos, source=SOURCE)

    def _unpriced(self, fault: str, model: str) -> Price:
        reason = f"The function given as prices {fault} (for {model!r})."
        # Warn once: a function that fails may fail in every call.
        level = logging.DEBUG if self._warned else logging.WARNING
        self._warned = True
        _logger.log(level, "a call is unpriced: %s", without_secrets(reason))
        return Price("unpriced", source=SOURCE, reason=reason)


def _error_text(error: Exception) -> str:
    """Format a user's error, whose str() may itself fail."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # a user's __str__ may raise anything
        return type(error).__name__


def _safe_repr(value: object) -> str:
    """Format a user's value, whose repr() may itself fail."""
    try:
        return repr(value)[:80]
    except Exception:
        return f"a {type(value).__name__}"


def _name(name: object) -> str:
    if isinstance(name, str) and name:
        return name
    raise ConfigError(f"prices needs names like 'my-model' or 'openai/gpt-4o'; not {name!r}.")


def _entry(model: str, given: object) -> Tariff:
    if isinstance(given, Mapping):
        return _tariff(model, given)
    if given == "free" or _decimal(given) == 0:
        return _FREE
    raise ConfigError(
        f"prices[{model!r}] is a dict of rates in US dollars for a million tokens, as "
        f'{{"input": 0.5, "output": 1.5}}, or 0 or "free"; not {given!r}.'
    )


def _tariff(model: str, given: Mapping[object, object]) -> Tariff:
    for unit in _NEEDED:
        if unit not in given:
            raise ConfigError(
                f"prices[{model!r}] has no {unit!r}: it needs US dollars for a million tokens of "
                "input and of output. Write 0 for what costs nothing."
            )
    rates = {}
    for name, value in given.items():
        if not isinstance(name, str) or name not in _KNOWN:
            known = ", ".join(_KNOWN)
            raise ConfigError(f"prices[{model!r}] has an unknown unit {name!r}. Known: {known}.")
        rates[name] = _rate(model, name, value)
    counted = {unit: rates.pop(name) for name, unit in _TOOLS.items() if name in rates}
    return Tariff.of(rates, rates.pop("request", None), counted=counted, whole=True)


def _rate(model: str, unit: str, value: object) -> Decimal:
    exact = _decimal(value)
    if exact is None or (exact and not _LEAST <= exact.adjusted() < _MOST):
        of = "for each call" if unit in _FOR_ONE else "for a million tokens"
        raise ConfigError(
            f"prices[{model!r}][{unit!r}] is a number of US dollars {of}, not {value!r}."
        )
    return exact


def _decimal(value: object) -> Decimal | None:
    if not isinstance(value, str):
        return number(value)
    try:
        return number(Decimal(value.strip()))
    except InvalidOperation:
        return None


def _digest(entries: Mapping[str, Tariff]) -> str:
    """Digest a table; tables with equal prices have equal digests."""
    said = sorted(
        (name, sorted((*entry.texts.items(), *((key, str(v)) for key, v in entry.counted.items()))))
        for name, entry in entries.items()
    )
    return hashlib.sha256(repr(said).encode()).hexdigest()[:12]
