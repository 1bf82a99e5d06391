"""The error tree: what is drawn is what there is, and every error can leave its process."""

from __future__ import annotations

import inspect
import pickle
import re

import pytest

from lllm.events import errors

ERRORS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, errors.LllmError)
]


def test_the_drawn_tree_is_the_tree() -> None:
    """Each error stands in the docstring's tree once, with the builtin that it is too."""
    drawn = dict(re.findall(r"[├└]── (\w+)(?: +\((\w+)\))?", errors.__doc__ or ""))
    drawn["LllmError"] = ""
    assert set(drawn) == {kind.__name__ for kind in ERRORS}
    for kind in ERRORS:
        builtins = [base.__name__ for base in kind.__bases__ if base.__module__ == "builtins"]
        if kind is not errors.LllmError:
            assert [name for name in [drawn[kind.__name__]] if name] == builtins


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_errors_cross_processes(kind: type[errors.LllmError]) -> None:
    """A pickled error says the same, with all its fields."""
    if kind is errors.LogDamaged:
        error: errors.LllmError = errors.LogDamaged("what was wrong", position=3, stream="s")
    elif kind is errors.InvokeError:
        error = errors.InvokeError("what was wrong", retryable=True, status=429, retry_after=5)
    elif kind is errors.BudgetExceeded:
        error = errors.BudgetExceeded("what was wrong", spent_usd=0.3, limit_usd=0.2)
    else:
        error = kind("what was wrong")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == "what was wrong"
    assert vars(again) == vars(error)
