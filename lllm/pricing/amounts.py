"""Parses and converts amounts of money and of tokens, exactly."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal

import msgspec

from lllm.events.model import Amount

# Our own context: the program may have set this thread's precision too low for money.
EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)
_AMOUNTS = tuple[Amount, ...]
_USUAL = 10**12  # no more than `Amount` of an event can hold
_LARGEST = 30  # order of magnitude; converting a larger Decimal to an int would take too long


def fits_event(*amounts: object) -> bool:
    """True if amounts are whole numbers within the bounds of `Amount`."""
    if all(type(amount) is int and -_USUAL < amount < _USUAL for amount in amounts):
        return True  # the fast path: nearly all amounts are plain ints
    try:
        msgspec.convert(amounts, _AMOUNTS)
    except msgspec.ValidationError:
        return False
    return True


def number(value: object) -> Decimal | None:
    """Convert a number from JSON or from a user to an exact, non-negative Decimal.

    A float is read as the shortest decimal that equals it, so 0.1 is exactly 0.1.

    Args:
        value: Any value; only an int, float or Decimal is a number.

    Returns:
        The number; None for anything else, for NaN, infinities and bools.
    """
    if not isinstance(value, int | float | Decimal) or isinstance(value, bool):
        return None
    # The repr() of a subclass, such as numpy's, has more than the digits.
    exact = Decimal(float.__repr__(value)) if isinstance(value, float) else Decimal(value)
    return exact if exact.is_finite() and exact >= 0 else None


def nanos_of(dollars: Decimal) -> int | None:
    """Convert US dollars to nano-dollars.

    Args:
        dollars: The amount in US dollars.

    Returns:
        Nano-dollars, rounded half-even; None if the amount is more than an event can hold.
    """
    if dollars and dollars.adjusted() > _LARGEST:
        return None
    nanos = rounded(dollars, 9)
    return nanos if fits_event(nanos) else None


def rounded(exact: Decimal, shift: int) -> int:
    """Multiply an exact amount by a power of ten and round it half-even.

    Args:
        exact: The amount.
        shift: The power of ten; 9 converts dollars to nano-dollars.

    Returns:
        The rounded whole number.
    """
    return int(exact.scaleb(shift, EXACT).to_integral_value(context=EXACT))
