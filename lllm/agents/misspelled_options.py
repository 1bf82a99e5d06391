"""Finds misspelled options of a tactic's call, such as `retrun_session=True`."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable
from difflib import get_close_matches

# options that every call accepts
_OPTIONS = ("tags", "metadata", "return_session", "budget_usd", "budget_unpriced")


def check_option_names(names: Iterable[str], call: Callable[..., object], tactic: object) -> None:
    """Raise an error for a keyword that looks like a misspelled option of lllm.

    If `call` accepts the keyword because it accepts any, only a warning is given.

    Args:
        names: The keywords of a call.
        call: The tactic's `call`, which receives them.
        tactic: The tactic, for messages.

    Raises:
        TypeError: `call` does not accept the keyword.
    """
    if not names:
        return
    parameters = inspect.signature(call).parameters
    takes_any = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    for name in names:
        meant = [] if name in parameters else get_close_matches(name, _OPTIONS, 1, 0.85)
        if not meant:
            continue
        message = f"{name!r} of {tactic!r} is not an option of lllm; did you mean {meant[0]!r}?"
        if not takes_any:
            raise TypeError(message)
        warnings.warn(f"{message} It was passed to `call`.", UserWarning, stacklevel=4)
