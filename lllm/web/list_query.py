"""Converts between the filters of a list and the parameters in a page's address."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, TypedDict
from urllib.parse import urlencode

import msgspec

from lllm.events.model import State

COLUMNS = ("tactic", "started", "took", "calls", "tokens", "cost", "id")


class StoreFilters(TypedDict):
    """The filter arguments of `LogStore.list_sessions` and `export_cost_summary`."""

    tags: dict[str, str]
    state: State | None
    tactic_path: str | None
    after: str | None
    before: str | None
    partition: str | None


class ListQuery(msgspec.Struct, frozen=True, omit_defaults=True):
    """The selection in a page's address; each field is a parameter.

    Attributes:
        state: The state of the sessions, as in `LogStore.list_sessions`.
        tactic: The stable path of a tactic.
        tag: Tags, each written as KEY=VALUE.
        after: Only sessions from this time on, as in `LogStore.list_sessions`.
        before: Only sessions before this time, as in `LogStore.list_sessions`.
        partition: The partition of the sessions, as in `LogStore.list_sessions`.
        sort: The order of the list: "started" or "cost".
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
    sort: Literal["started", "cost"] = "started"
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
        several: dict[str, list[str]] = {"tag": [], "hide": []}
        for name, value in pairs:
            value = value.strip()
            if not value:
                continue
            if name in several:
                if value not in several[name]:
                    several[name].append(value)
            elif name in cls.__struct_fields__:
                one[name] = value
        if one.get("sort", "started") not in ("started", "cost"):
            raise ValueError(f"sort is started or cost, not {one['sort']!r}")
        for tag in several["tag"]:
            if not tag.partition("=")[0] or "=" not in tag:
                raise ValueError(f"{tag!r} is not a tag; write it as KEY=VALUE")
        return msgspec.convert(one | several, cls)

    def filters(self) -> StoreFilters:
        """Convert the selection to arguments of the store's methods.

        Raises:
            ValueError: Two different values are given for one tag.
        """
        tags: dict[str, str] = {}
        for pair in self.tag:
            name, _, value = pair.partition("=")
            if tags.setdefault(name, value) != value:
                raise ValueError(f"the tag {name!r} is given two values")
        return StoreFilters(
            tags=tags,
            state=self.state or None,  # type: ignore[typeddict-item]  # the store checks it
            tactic_path=self.tactic or None,
            after=self.after or None,
            before=self.before or None,
            partition=self.partition or None,
        )

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

    def with_tag(self, name: str, value: str, path: str = "/") -> str:
        """Make the address of this list with one more tag filter.

        Args:
            name: The name of the tag.
            value: The value of the tag.
            path: The path of the page.
        """
        others = tuple(pair for pair in self.tag if pair.partition("=")[0] != name)
        return self.url(path, tag=(*others, f"{name}={value}"))

    def chips(self) -> list[tuple[str, str]]:
        """List the active filters: the text of each, and the address without it."""
        shown: list[tuple[str, str]] = []
        names: Mapping[str, str] = {
            "state": self.state, "tactic": self.tactic, "after": self.after,
            "before": self.before, "partition": self.partition,
        }  # fmt: skip
        for name, value in names.items():
            if value:
                shown.append((f"{name} {value}", self.url(**{name: ""})))
        for pair in self.tag:
            rest = tuple(one for one in self.tag if one != pair)
            shown.append((pair, self.url(tag=rest)))
        if self.replays:
            shown.append(("with replays", self.url(replays="")))
        return shown
