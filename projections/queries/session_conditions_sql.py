"""Turns the conditions that are checked for each session into SQL.

No index serves them: in a list by start, sessions are checked newest first until a page is full.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from lllm.projections.dialect import SQLDialect
from lllm.projections.queries.filters import Conditions
from lllm.projections.view import storable

_Condition = tuple[str, *tuple[object, ...]]  # SQL and its parameters


def conditions_sql(dialect: SQLDialect, wanted: Conditions, root: str) -> Iterator[_Condition]:
    """Make the SQL of the conditions.

    Args:
        dialect: What the engine of the rows calls what SQL has no word for.
        wanted: The conditions.
        root: The column with the number of the session's root; that of the session is `f.session`.

    Yields:
        The SQL of each condition, and the values of its placeholders.
    """
    kinds = {"model": wanted.model, "agent": wanted.agent}
    given = {name: text for name, text in kinds.items() if text is not None}
    if given:
        cells = " AND ".join(map(LIKE.format, given))
        patterns = (like_pattern(storable(text)) for text in given.values())
        yield _WITH_CELLS.format(cells), *patterns
    for bound, sign in ((wanted.least_nanos, ">="), (wanted.most_nanos, "<=")):
        if bound is not None:
            yield f"{_COST} {sign} ?", bound
    if wanted.wasted:
        yield (_WASTED,)
    for bound, sign in ((wanted.least_elapsed, ">="), (wanted.most_elapsed, "<=")):
        if bound is not None:
            yield _OF_ROW.format(f"x.elapsed {sign} ?"), bound
    if wanted.text is not None:
        yield _OF_ROW.format(dialect.contains(_SAID)), storable(wanted.text)
    family = _BELOW_ROOT if root == "f.session" else _BELOW_CHILD
    if wanted.statuses is not None:
        yield _FAILED.format(family, "+c.status BETWEEN ? AND ?"), *wanted.statuses
    if wanted.error is not None:
        said = storable(wanted.error)
        of_attempt = error_text("c.error_type", "c.error_code", "c.error_message")
        failed = _FAILED.format(family, dialect.contains(of_attempt))
        of_session = error_text("x.error_type", "x.error_message", "x.error_message")
        of_session = _OF_ROW.format(dialect.contains(of_session))
        yield f"({of_session} OR {failed})", said, said


def like_pattern(name: str) -> str:
    """Convert a name to a pattern for LIKE, which ignores case.

    Source: https://sqlite.org/lang_expr.html#the_like_glob_regexp_match_and_extract_operators

    Args:
        name: The name, in which `*` stands for any characters.
    """
    return re.sub(r"[\\%_]", r"\\\g<0>", name).replace("*", "%")


def error_text(kind: str, code: str, message: str) -> str:
    """Make the SQL expression of an error's text, in small letters.

    Args:
        kind: The column with the error's type.
        code: The column with the provider's code.
        message: The column with the message.
    """
    said = f"lower({kind} || '\n' || coalesce({code}, '') || '\n' || coalesce({message}, ''))"
    # Many timeouts say "timed out" instead.
    return f"{said} || '\n' || replace({said}, 'timed out', 'timeout')"


LIKE = "lower({}) LIKE lower(?) ESCAPE '\\'"
_OF_ROW = "EXISTS (SELECT 1 FROM sessions AS x WHERE x.number = f.session AND {})"
_SAID = (
    "lower(coalesce(x.task, '') || '\n' || coalesce(x.error_type, '') || '\n'"
    " || coalesce(x.error_message, '') || '\n' || x.tactic)"
)
_COST = "coalesce((SELECT x.cost_nanos FROM session_totals AS x WHERE x.session = f.session), 0)"
_WASTED = "(SELECT x.wasted_nanos FROM session_totals AS x WHERE x.session = f.session) > 0"
_WITH_CELLS = (
    "EXISTS (SELECT 1 FROM session_costs AS x WHERE x.session = f.session"
    " AND x.cell IN (SELECT cell FROM cost_cells WHERE {}))"
)
# The totals are looked up first: they tell that most sessions have no failed attempt.
_FAILED = (
    "((SELECT x.failed_calls FROM session_totals AS x WHERE x.session = f.session) > 0"
    " AND EXISTS (SELECT 1 FROM ({}) AS b CROSS JOIN calls AS c ON c.session = b.session"
    " WHERE c.state || '' = 'failure' AND {}))"
)
_BELOW_ROOT = (
    "SELECT f.session AS session UNION ALL SELECT number FROM sessions"
    " WHERE root = f.session AND parent IS NOT NULL"
)
_BELOW_CHILD = (
    "WITH RECURSIVE below(session) AS (SELECT f.session UNION SELECT s.number FROM below"
    " CROSS JOIN sessions AS s ON s.root = f.root AND s.parent = below.session"
    " AND s.parent IS NOT NULL) SELECT session FROM below"
)
