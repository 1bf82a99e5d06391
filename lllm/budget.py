"""What a call may spend on models, and what it has spent.

A budget is asked before each call of a model and told of the cost after it: the call that crosses
it is the last. What a sub-tactic spends, its caller spends too. Agents that answer at the same time
share one budget: each of them may have one call under way when it is crossed.
"""

from __future__ import annotations

from collections.abc import Iterator

from lllm.events.errors import BudgetExceeded, ConfigError
from lllm.events.model import LLMFailed, LLMResponded, Price
from lllm.events.robust_locks import ThreadLock
from lllm.projections.invoke_cost import dollars, nanos

_MOST = 10**6  # US dollars; more is a slip of the keyboard
_spending = ThreadLock()  # one for all: it is held for an addition


class Budget:
    """A limit in nano-dollars, None for none, and what was spent under it.

    above: the budget of the caller, which all of this comes out of, too.
    """

    def __init__(self, limit: int | None = None, above: Budget | None = None) -> None:
        self.limit = limit
        self.spent = 0
        self.unpriced = 0  # calls whose cost nobody knows
        self.above = above

    def _all(self) -> Iterator[Budget]:
        """This budget, and those that it comes out of."""
        budget: Budget | None = self
        while budget is not None:
            yield budget
            budget = budget.above

    def check(self, what: str) -> None:
        """Before something that costs.

        what: it, in words. Raises BudgetExceeded where this budget, or one above, is spent.
        """
        for budget in self._all():
            if budget.limit is not None and budget.spent >= budget.limit:
                raise BudgetExceeded(
                    f"{dollars(budget.spent):.9g} US$ of a budget of "
                    f"{dollars(budget.limit):.9g} US$ are spent, so {what} did not happen."
                    + budget._unknown(),
                    spent_usd=dollars(budget.spent),
                    limit_usd=dollars(budget.limit),
                )

    def _unknown(self) -> str:
        if not self.unpriced:
            return ""
        return f" What {self.unpriced} more cost is not known."

    def spend_on(self, attempt: LLMResponded | LLMFailed) -> None:
        """After it: what it cost. A failed attempt that nobody says used anything cost nothing."""
        if attempt.price is not None:
            self.spend(attempt.price)

    def spend(self, price: Price) -> None:
        """After it: what it cost, by its price."""
        cost = price.nanos
        with _spending.held():
            for budget in self._all():
                if cost is None:
                    budget.unpriced += 1
                else:
                    budget.spent += cost

    def __reduce__(self) -> tuple[type[Budget], tuple[int | None]]:
        """Another process gets what is left; what it spends is not known here."""
        return Budget, (self.left(),)

    def left(self) -> int | None:
        """Nano-dollars that are left in the tightest of the budgets; None without any limit."""
        left = [max(0, one.limit - one.spent) for one in self._all() if one.limit is not None]
        return min(left, default=None)


def limit_of(budget_usd: float | None) -> int | None:
    """A limit in nano-dollars from US dollars, as a user gives them.

    Raises ConfigError for what is no amount of money.
    """
    if budget_usd is None:
        return None
    is_number = isinstance(budget_usd, int | float) and not isinstance(budget_usd, bool)
    if is_number and 0 <= budget_usd <= _MOST:  # NaN is not
        return nanos(budget_usd)
    raise ConfigError(
        f"budget_usd is a number of US dollars from 0 to {_MOST:,}, not {budget_usd!r}."
    )
