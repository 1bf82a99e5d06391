"""Reads the filters of model calls from an address."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict

import msgspec

from lllm.projections.queries.filters import CallSort
from lllm.store.call_records import CallRecord
from lllm.web.list_query import ListQuery
from lllm.web.pages import StorePages

_FIELDS = ("model", "provider", "error", "slower", "state", "session", "sort")
# those that would select sessions, if the address were one of a list
_OF_CALLS = frozenset({"sort", "state"})


class CallFilters(TypedDict):
    """The filter arguments of both `LogStore.list_calls` and `summarize_calls`."""

    error: str | None
    model: str | None
    provider: str | None
    tactic_path: str | None
    tags: dict[str, str]
    after: str | None
    before: str | None
    partition: str | None


class CallQuery(msgspec.Struct, frozen=True):
    """What an address selects of model calls.

    Attributes:
        given: The parameters that belong to calls; "" for those that are left out.
        of: The parameters that lists of sessions have, too.
    """

    given: dict[str, str]
    of: ListQuery

    @classmethod
    def of_pairs(cls, pairs: Iterable[tuple[str, str]]) -> CallQuery:
        """Read the parameters of an address.

        Args:
            pairs: Names and values, in their order.

        Raises:
            ValueError: A parameter has an invalid value.
        """
        pairs = list(pairs)
        given = dict.fromkeys(_FIELDS, "")
        for name, value in pairs:
            if name in given:
                given[name] = value.strip()
        given["sort"] = given["sort"] or "started"
        return cls(given, ListQuery.of(pair for pair in pairs if pair[0] not in _OF_CALLS))

    def filters(self) -> CallFilters:
        """Convert the selection to arguments of the store's methods.

        Raises:
            ValueError: Two different values are given for one tag.
        """
        given, of = self.given, self.of.facets()
        return CallFilters(
            error=given["error"] or None,
            model=given["model"] or None,
            provider=given["provider"] or None,
            tactic_path=of["tactic_path"],
            tags=of["tags"],
            after=of["after"],
            before=of["before"],
            partition=of["partition"],
        )

    def listed(self, pages: StorePages, limit: int) -> list[CallRecord]:
        """List the model calls.

        Args:
            pages: Has the store, and the time zone.
            limit: The greatest number of calls.

        Raises:
            ValueError: A parameter has an invalid value.
        """
        given, store = self.given, pages.store
        return store.list_calls(
            **self.filters(),
            slower=given["slower"] or None,
            state=given["state"] or None,  # type: ignore[arg-type]  # the store checks it
            session_id=given["session"] or None,
            tz=pages.zone,
            sort=_as_sort(given["sort"]),
            limit=limit,
            cursor=self.of.cursor or None,
        )


def _as_sort(text: str) -> CallSort:
    return text  # type: ignore[return-value]  # the store checks it
