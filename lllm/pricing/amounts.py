"""Parses and converts amounts of money and of tokens, exactly."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal

import msgspec

from lllm.events.model import Amount

# A context of our own: the thread's may have been set to a precision that loses money.
EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)
_AMOUNTS = tuple[Amount, ...]
_USUAL = 10**12  # within the bounds of an Amount
_LARGEST = 30  # order of magnitude; more is no money, and would take an age to become an int


def fits_event(*amounts: object) -> bool:
    """True if amounts are whole numbers within the bounds of `Amount`."""
    if all(type(amount) is int and -_USUAL < amount < _USUAL for amount in amounts):
        return True  # as nearly all are, which is sooner seen than checked
    try:
        msgspec.convert(amounts, _AMOUNTS)
    except msgspec.ValidationError:
        return False
    return True


def number(value: object) -> Decimal | None:
    """Parse a non-negative number from JSON or from a user.

    A float is taken for the shortest decimal that reads back as it, which is what was written.

    Args:
        value: Anything.

    Returns:
        The number; None for what is none, for NaN and infinities, and for a bool.
    """
    if not isinstance(value, int | float | Decimal) or isinstance(value, bool):
        return None
    # repr() of a subclass, as numpy's, says more than the number.
    exact = Decimal(float.__repr__(value)) if isinstance(value, float) else Decimal(value)
    return exact if exact.is_finite() and exact >= 0 else None


def nanos_of(dollars: Decimal) -> int | None:
    """Convert US dollars to nano-dollars.

    Args:
        dollars: An exact amount.

    Returns:
        Nano-dollars, rounded half-even; None for more than an event can hold.
    """
    if dollars and dollars.adjusted() > _LARGEST:
        return None
    nanos = rounded(dollars, 9)
    return nanos if fits_event(nanos) else None


def rounded(exact: Decimal, shift: int) -> int:
    """Round an exact amount to a whole number, half to even.

    Args:
        exact: The amount.
        shift: Of the point to the right, before it is rounded.

    Returns:
        The whole number.
    """
    return int(exact.scaleb(shift, EXACT).to_integral_value(context=EXACT))
