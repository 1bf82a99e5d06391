"""The small faults that `benchmarks.mutants` puts into a file, one at a time."""

from __future__ import annotations

import ast
import copy
import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass

_LOCK = re.compile(r"lock|held|alone|staging|committing|rebuilding|moving|making|ending|_steps")
_FSYNC = re.compile(r"f(data)?sync|synced")
_TURNED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_NO_LOCK = '__import__("contextlib").nullcontext(True)'

# Its kind, what it takes the place of, and what is put there.
_Fault = tuple[str, ast.expr | ast.stmt, str]


@dataclass(frozen=True)
class Mutant:
    """One fault: what stands between two places of a file, and what is put there instead."""

    path: str
    kind: str
    start: tuple[int, int]  # line from 1, byte in it
    end: tuple[int, int]
    instead: str

    def text(self, source: str) -> str:
        """The file with the fault in it."""
        lines = source.encode().splitlines(keepends=True)
        head = b"".join(lines[: self.start[0] - 1]) + lines[self.start[0] - 1][: self.start[1]]
        tail = lines[self.end[0] - 1][self.end[1] :] + b"".join(lines[self.end[0] :])
        return (head + self.instead.encode() + tail).decode()

    def diff(self, source: str) -> str:
        """What the fault changes."""
        before, after = source.splitlines(), self.text(source).splitlines()
        return "\n".join(difflib.unified_diff(before, after, self.path, self.kind, "", "", 2, ""))


def mutants_of(path: str, source: str) -> Iterator[Mutant]:
    """All faults that can be made in one file."""
    tree = ast.parse(source)
    annotations = {id(node) for one in ast.walk(tree) for node in _annotations(one)}
    for node in ast.walk(tree):
        if isinstance(node, ast.expr | ast.stmt) and id(node) not in annotations:
            for kind, at, instead in _faults(node):
                end = (at.end_lineno or at.lineno, at.end_col_offset or 0)
                yield Mutant(path, kind, (at.lineno, at.col_offset), end, instead)


def _annotations(node: ast.AST) -> Iterator[ast.AST]:
    """What is for type checkers, or inside an f-string, whose parts have no places of their own."""
    for name in ("annotation", "returns"):
        if (found := getattr(node, name, None)) is not None:
            yield from ast.walk(found)
    if isinstance(node, ast.JoinedStr):
        yield from ast.walk(node)


def _faults(node: ast.expr | ast.stmt) -> Iterator[_Fault]:
    match node:
        case ast.Compare() if type(node.ops[0]) in _TURNED:
            turned = copy.copy(node)
            turned.ops = [_TURNED[type(node.ops[0])](), *node.ops[1:]]
            yield "comparison", node, f"({ast.unparse(turned)})"
        case ast.Constant(value=bool(value)):
            yield "constant", node, str(not value)
        case ast.Constant(value=int() | float() as value):
            yield "constant", node, f"{value + 1!r}"
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            pass  # for type checkers, as annotations are
        case ast.If(test=test) | ast.IfExp(test=test) if not isinstance(test, ast.Compare):
            yield "branch", test, f"(not ({ast.unparse(test)}))"
        case ast.With(items=items):
            for item in items:
                if _LOCK.search(ast.unparse(item.context_expr)):
                    yield "lock", item.context_expr, _NO_LOCK
        case ast.stmt() if _can_go(node):
            yield "fsync" if _FSYNC.search(ast.unparse(node)) else "statement", node, "pass"


def _can_go(node: ast.stmt) -> bool:
    match node:
        case ast.Expr(value=ast.Call() | ast.Await()):
            return True
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript(), *_]):
            return True
    return isinstance(node, ast.AugAssign | ast.Raise | ast.Break | ast.Continue | ast.Delete)
