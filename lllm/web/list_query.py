"""Converts between the filters of a list and the parameters in a page's address."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypedDict
from urllib.parse import urlencode

import msgspec

from lllm.cli.annotation_values import parse_value
from lllm.events.model import State
from lllm.projections.queries.filters import SessionSort
from lllm.store.summaries import SORTS

_WORDS = {"min_cost": "cost from", "max_cost": "cost to", "slower": "took from",
          "faster": "took to"}  # fmt: skip
COLUMNS = ("tactic", "started", "took", "calls", "tokens", "cost", "id")


class FacetFilters(TypedDict):
    """The filter arguments that lists, sums and searches have."""

    tags: dict[str, str]
    state: State | None
    tactic_path: str | None
    after: str | None
    before: str | None
    partition: str | None


class StoreFilters(FacetFilters):
    """The filter arguments of `LogStore.list_sessions` and `export_cost_summary`."""

    annotations: dict[str, object]
    model: str | None
    agent: str | None
    error: str | None
    text: str | None
    min_cost: float | None
    max_cost: float | None
    slower: str | None
    faster: str | None
    wasted: bool


class ListQuery(msgspec.Struct, frozen=True, omit_defaults=True):
    """The selection in a page's address; each field is a parameter.

    Attributes:
        state: The state of the sessions, as in `LogStore.list_sessions`.
        tactic: The stable path of a tactic.
        tag: Tags, each written as KEY=VALUE.
        after: Only sessions from this time on, as in `LogStore.list_sessions`.
        before: Only sessions before this time, as in `LogStore.list_sessions`.
        partition: The partition of the sessions, as in `LogStore.list_sessions`.
        note: Annotations as NAME or NAME=VALUE.
        model: As in `list_sessions`.
        agent: As in `list_sessions`.
        error: As in `list_sessions`.
        text: As in `list_sessions`.
        min_cost: As in `list_sessions`.
        max_cost: As in `list_sessions`.
        slower: As in `list_sessions`.
        faster: As in `list_sessions`.
        wasted: "yes" for sessions that have a wasted cost.
        sort: As in `list_sessions`.
        reverse: "yes" for the opposite order.
        cursor: The cursor at which this page of the list begins.
        replays: "yes" to list replays, too.
        hide: The names of columns that are not shown.
    """

    state: str = ""
    tactic: str = ""
    tag: tuple[str, ...] = ()
    after: str = ""
    before: str = ""
    partition: str = ""
    note: tuple[str, ...] = ()
    model: str = ""
    agent: str = ""
    error: str = ""
    text: str = ""
    min_cost: str = ""
    max_cost: str = ""
    slower: str = ""
    faster: str = ""
    wasted: str = ""
    sort: SessionSort = "started"
    reverse: str = ""
    cursor: str = ""
    replays: str = ""
    hide: tuple[str, ...] = ()

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, str]]) -> ListQuery:
        """Read the parameters of an address; empty and unknown ones are ignored.

        Args:
            pairs: The names and values of the parameters, in order.

        Raises:
            ValueError: A parameter has an invalid value.
        """
        one: dict[str, str] = {}
        several: dict[str, list[str]] = {"tag": [], "note": [], "hide": []}
        for name, value in pairs:
            value = value.strip()
            if not value:
                continue
            if name in several:
                if value not in several[name]:
                    several[name].append(value)
            elif name in cls.__struct_fields__:
                one[name] = value
        if one.get("sort", "started") not in SORTS:
            raise ValueError(f"sort is one of {', '.join(SORTS)}; not {one['sort']!r}")
        for tag in several["tag"]:
            if not tag.partition("=")[0] or "=" not in tag:
                raise ValueError(f"{tag!r} is not a tag; write it as KEY=VALUE")
        return msgspec.convert(one | several, cls)

    def facets(self) -> FacetFilters:
        """Convert the filters that a search of messages has, too, to arguments of the store.

        Raises:
            ValueError: Two different values are given for one tag.
        """
        tags: dict[str, str] = {}
        for pair in self.tag:
            name, _, value = pair.partition("=")
            if tags.setdefault(name, value) != value:
                raise ValueError(f"the tag {name!r} is given two values")
        return FacetFilters(
            tags=tags,
            state=self.state or None,  # type: ignore[typeddict-item]  # the store checks it
            tactic_path=self.tactic or None,
            after=self.after or None,
            before=self.before or None,
            partition=self.partition or None,
        )

    def filters(self) -> StoreFilters:
        """Convert the selection to arguments of the store's methods.

        Raises:
            ValueError: A tag has two values, or a value can't be read.
        """
        return StoreFilters(
            **self.facets(),
            annotations=self._annotations(),
            model=self.model or None,
            agent=self.agent or None,
            error=self.error or None,
            text=self.text or None,
            min_cost=_dollars("min_cost", self.min_cost),
            max_cost=_dollars("max_cost", self.max_cost),
            slower=self.slower or None,
            faster=self.faster or None,
            wasted=bool(self.wasted),
        )

    def _annotations(self) -> dict[str, object]:
        wanted: dict[str, object] = {}
        for pair in self.note:
            name, equals, value = pair.partition("=")
            if not name:
                raise ValueError(f"{pair!r} has no name; write a note as NAME=VALUE or NAME")
            wanted[name] = parse_value(value) if equals else None
        return wanted

    def url(self, path: str = "/", **changes: object) -> str:
        """Make the address of a page with the same selection, except for some changes.

        Args:
            path: The path of the page.
            **changes: New values of fields. The list begins at its first page, unless `cursor` is
                given.

        Returns:
            The path with its parameters.
        """
        changed = msgspec.structs.replace(self, **{"cursor": "", **changes})
        pairs = [
            (name, value)
            for name, values in msgspec.to_builtins(changed).items()
            for value in ([values] if isinstance(values, str) else values)
            if value
        ]
        return f"{path}?{urlencode(pairs)}" if pairs else path

    def sorted_by(self, sort: SessionSort) -> str:
        """The address of the same list in another order; in the opposite one if it is in that."""
        again = sort == self.sort and not self.reverse
        return self.url(sort=sort, reverse="yes" if again else "")

    def with_tag(self, name: str, value: str, path: str = "/") -> str:
        """Make the address of this list with one more tag filter.

        Args:
            name: The name of the tag.
            value: The value of the tag.
            path: The path of the page.
        """
        others = tuple(pair for pair in self.tag if pair.partition("=")[0] != name)
        return self.url(path, tag=(*others, f"{name}={value}"))

    def chips(self, path: str = "/") -> list[tuple[str, str]]:
        """List the active filters: the text of each, and the address without it.

        Args:
            path: The path of the page.
        """
        shown: list[tuple[str, str]] = []
        names: Mapping[str, str] = {
            "state": self.state, "tactic": self.tactic, "after": self.after,
            "before": self.before, "partition": self.partition, "model": self.model,
            "agent": self.agent, "error": self.error, "text": self.text,
            "min_cost": self.min_cost, "max_cost": self.max_cost,
            "slower": self.slower, "faster": self.faster,
        }  # fmt: skip
        for name, value in names.items():
            if value:
                shown.append((f"{_WORDS.get(name, name)} {value}", self.url(path, **{name: ""})))
        for pair in self.tag:
            rest = tuple(one for one in self.tag if one != pair)
            shown.append((pair, self.url(path, tag=rest)))
        for pair in self.note:
            rest = tuple(one for one in self.note if one != pair)
            shown.append((f"note {pair}", self.url(path, note=rest)))
        if self.wasted:
            shown.append(("money was wasted", self.url(path, wasted="")))
        if self.replays:
            shown.append(("with replays", self.url(path, replays="")))
        return shown


def _dollars(name: str, text: str) -> float | None:
    if not text:
        return None
    try:
        return float(text.removeprefix("$"))
    except ValueError:
        raise ValueError(f"{name} is an amount of dollars as 0.05, not {text!r}") from None
