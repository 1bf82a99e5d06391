"""Reads the filters of a list or a sum from the address of a page, and writes them back."""

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
    """What the address of a page selects; every field is a parameter of it.

    Attributes:
        state: As in `LogStore.list_sessions`.
        tactic: The stable path of a tactic.
        tag: Tags as KEY=VALUE.
        after: A time as in `list_sessions`.
        before: A time as in `list_sessions`.
        partition: As in `list_sessions`.
        sort: "started" or "cost".
        cursor: Where the page begins.
        replays: "yes" to list replays, too.
        hide: Names of columns that are not shown.
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
        """Read the parameters of an address; empty ones and foreign ones count for nothing.

        Args:
            pairs: Names and values, in their order.

        Raises:
            ValueError: A parameter has a value that it can't have.
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
        """The same as arguments of the store.

        Raises:
            ValueError: A tag has two values.
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
        """The address of a page that selects the same, but for some changes.

        Args:
            path: Of the page.
            **changes: Fields with new values. A new page of a list begins at its beginning, unless
                `cursor` is one of them.

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
        """The address of the same list, with only the sessions that have a tag, too.

        Args:
            name: The tag's name.
            value: Its value.
            path: Of the page.
        """
        others = tuple(pair for pair in self.tag if pair.partition("=")[0] != name)
        return self.url(path, tag=(*others, f"{name}={value}"))

    def chips(self) -> list[tuple[str, str]]:
        """What is selected, each as text and the address of the list without it."""
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
