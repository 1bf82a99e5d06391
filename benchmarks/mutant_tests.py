"""Which tests speak of a place in the code: those that use its names, most of all its rare ones.

A line may be reached by thousands of tests. Those that were written for it name what stands there,
as the lock in `with self._rows_lock.held():` or the function around it.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

_WORD = re.compile(r"[A-Za-z_]\w{2,}")


class Naming:
    """The names that tests use, and those of places in the code, of one checkout."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._functions: dict[str, list[ast.FunctionDef | ast.AsyncFunctionDef]] = {}

    def score(self, test: str, words: set[str]) -> float:
        """How much a test speaks of some names: each counts less the more tests use it."""
        file, _, name = test.partition("[")[0].partition("::")
        mine = self._tests.get(f"{file}::{name.rpartition('::')[2]}", frozenset())
        return sum(1 / self._uses[word] for word in words & mine)

    def words(self, path: str, first: int, last: int) -> set[str]:
        """The names on some lines of a file, and of the functions around them."""
        source = (self._root / path).read_text()
        if path not in self._functions:
            self._functions[path] = [*_functions(ast.parse(source))]
        around = [
            function.name
            for function in self._functions[path]
            if function.lineno <= first and last <= (function.end_lineno or 0)
        ]
        return {*_WORD.findall("\n".join(source.splitlines()[first - 1 : last])), *around}

    @cached_property
    def _tests(self) -> dict[str, frozenset[str]]:
        found = {}
        for file in (self._root / "tests").rglob("test_*.py"):
            source = file.read_text()
            lines = source.splitlines()
            for test in _functions(ast.parse(source)):
                text = "\n".join(lines[test.lineno - 1 : test.end_lineno])
                found[f"{file.relative_to(self._root)}::{test.name}"] = frozenset(
                    _WORD.findall(text)
                )
        return found

    @cached_property
    def _uses(self) -> Counter[str]:
        return Counter(word for words in self._tests.values() for word in words)


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
