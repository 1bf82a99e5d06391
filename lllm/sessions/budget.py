"""Limits what a call may spend on models, and counts what it has spent.

A budget is checked before each call of a model and charged after it; so the call that exceeds it is
the last one. Spending of a sub-tactic also counts for its caller. Agents that run at the same time
share one budget; when it is exceeded, each of them may still have one call running.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Literal

from lllm.events.concurrency.robust_locks import ThreadLock
from lllm.events.errors import BudgetExceeded, ConfigError
from lllm.events.model import LLMFailed, LLMResponded, Price
from lllm.events.redaction.cut_text import without_secrets
from lllm.projections.session.invoke_cost import dollars, nanos

OnUnpriced = Literal["warn", "stop"]

_logger = logging.getLogger("lllm.pricing")
_MOST = 10**6  # US dollars; more is a slip of the keyboard
_spending = ThreadLock()  # one for all: it is held for an addition


class Budget:
    """A limit on spending for models, and the amount spent so far.

    Args:
        limit: The limit in nano-dollars; None for no limit.
        above: The budget of the caller, to which all spending is charged, too.
        unpriced: What to do after an attempt with an unknown cost: "warn" once, or "stop" before
            the next call.

    Attributes:
        limit: The limit in nano-dollars; None for no limit.
        above: The budget of the caller; None if there is none.
        spent: The amount spent so far, in nano-dollars.
        unpriced: The number of attempts with an unknown cost.
    """

    def __init__(
        self,
        limit: int | None = None,
        above: Budget | None = None,
        *,
        unpriced: OnUnpriced = "warn",
    ) -> None:
        self.limit = limit
        self._on_unpriced = unpriced
        self.spent = 0
        self.unpriced = 0  # calls whose cost is unknown
        # the APIs of calls that are not recorded, as an ordered set
        self._unseen: dict[str, None] = {}
        self.above = above

    def _all(self) -> Iterator[Budget]:
        """This budget, and those above it."""
        budget: Budget | None = self
        while budget is not None:
            yield budget
            budget = budget.above

    def check(self, what: str) -> None:
        """Raise BudgetExceeded if the budget is spent; called before anything that costs.

        Args:
            what: A description of the call that is about to be made, for the error.

        Raises:
            BudgetExceeded: This budget, or one above, is spent; or it has "stop", and the cost of
                an attempt is unknown.
        """
        for budget in self._all():
            if budget.limit is not None and budget.unpriced and budget._on_unpriced == "stop":
                raise BudgetExceeded(
                    f"What {budget.unpriced} of the calls cost is not known, and the budget of "
                    f"{dollars(budget.limit):.9g} US$ was to stop there "
                    f'(budget_unpriced="stop"), so {what} did not happen.',
                    spent_usd=dollars(budget.spent),
                    limit_usd=dollars(budget.limit),
                )
            if budget.limit is not None and budget.spent >= budget.limit:
                raise BudgetExceeded(
                    f"{dollars(budget.spent):.9g} US$ of a budget of "
                    f"{dollars(budget.limit):.9g} US$ are spent, so {what} did not happen."
                    + budget._unknown_costs(),
                    spent_usd=dollars(budget.spent),
                    limit_usd=dollars(budget.limit),
                )

    def misses(self, what: str) -> bool:
        """Note a call whose cost is not recorded.

        Args:
            what: The path of the API that is called.

        Returns:
            True if this budget, or one above it, has a limit.
        """
        for budget in self._all():
            budget._unseen[what] = None
        return any(budget.limit is not None for budget in self._all())

    def _unknown_costs(self) -> str:
        text = f" What {self.unpriced} more cost is not known." if self.unpriced else ""
        if self._unseen:
            text += f" It does not see what calls to {', '.join(self._unseen)} cost."
        return text

    def charge(self, attempt: LLMResponded | LLMFailed) -> None:
        """Add the cost of an attempt; a failed one without reported usage adds nothing.

        Args:
            attempt: The event that ended the attempt.
        """
        if attempt.price is not None:
            self.spend(attempt.price)

    def spend(self, price: Price) -> None:
        """Add a price to this budget and to the budgets above it.

        Args:
            price: The price of an attempt that has ended.
        """
        cost = price.nanos
        first: list[int] = []  # limits of those that meet it for the first time
        with _spending.held():
            for budget in self._all():
                if cost is not None:
                    budget.spent += cost
                    continue
                budget.unpriced += 1
                if budget.unpriced == 1 and budget.limit is not None:
                    first.append(budget.limit)
        if first:
            _warn(min(first), price.reason)

    def __reduce__(self) -> tuple[Callable[..., Budget], tuple[int | None, OnUnpriced, int]]:
        """Pickle the budget as what is left of it; spending elsewhere is not counted here."""
        stops = [one for one in self._all() if one.limit is not None and one._on_unpriced == "stop"]
        on_unpriced_there: OnUnpriced = "stop" if stops else "warn"
        unknown = max((one.unpriced for one in stops), default=0)
        return _budget_left, (self.left(), on_unpriced_there, unknown)

    def left(self) -> int | None:
        """The amount left in the tightest of the budgets.

        Returns:
            Nano-dollars; None without any limit.
        """
        left = [max(0, one.limit - one.spent) for one in self._all() if one.limit is not None]
        return min(left, default=None)


def _budget_left(limit: int | None, unpriced: OnUnpriced, unknown: int) -> Budget:
    budget = Budget(limit, unpriced=unpriced)
    budget.unpriced = unknown
    return budget


def _warn(limit: int, reason: str | None) -> None:
    message = (
        f"A call of a model under a budget of {dollars(limit):.9g} US$ has no known price, so the "
        f"budget does not count it: {without_secrets(reason or 'nobody says why')} "
        'budget_unpriced="stop" would let no call follow.'
    )
    try:
        warnings.warn(message, UserWarning, stacklevel=2)
    # the user turned warnings into errors; raising one here would lose the answer
    except UserWarning:
        _logger.warning("%s", message)


def budget_of(budget_usd: float | None, unpriced: object) -> Budget:
    """Make the budget of one call from the user's arguments.

    Args:
        budget_usd: The limit in US dollars; None for no limit.
        unpriced: What to do after an attempt with an unknown cost: "warn" or "stop"; see Budget.

    Returns:
        A budget with nothing spent.

    Raises:
        ConfigError: The limit or the choice is invalid.
    """
    return Budget(limit_of(budget_usd), unpriced=on_unpriced(unpriced))


def on_unpriced(given: object) -> OnUnpriced:
    """Check the user's choice of what happens when an attempt has no price.

    Args:
        given: "warn" or "stop".

    Returns:
        The same text.

    Raises:
        ConfigError: The value is another.
    """
    if given == "stop" or given == "warn":
        return "stop" if given == "stop" else "warn"
    raise ConfigError(f'budget_unpriced is "warn" or "stop", not {given!r}.')


def limit_of(budget_usd: float | None) -> int | None:
    """Convert a user's limit to nano-dollars.

    Args:
        budget_usd: The limit in US dollars; None for no limit.

    Returns:
        The limit in nano-dollars; None for no limit.

    Raises:
        ConfigError: The value is not a valid amount of money.
    """
    if budget_usd is None:
        return None
    is_number = isinstance(budget_usd, int | float) and not isinstance(budget_usd, bool)
    if is_number and 0 <= budget_usd <= _MOST:  # false for NaN
        return nanos(budget_usd)
    raise ConfigError(
        f"budget_usd is a number of US dollars from 0 to {_MOST:,}, not {budget_usd!r}."
    )
