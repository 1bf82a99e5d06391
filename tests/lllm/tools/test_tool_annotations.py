"""Tools whose parameters say more than a type, and tools that are no plain functions."""

from __future__ import annotations

import asyncio
import functools
import json
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import annotated_types
import msgspec
import pydantic
import pytest
from pydantic import Field

from lllm.events.errors import ConfigError, ParseError
from lllm.tools.tool import Tool, tool


def properties(made: Tool[..., object]) -> dict[str, dict[str, object]]:
    """What the model is told of the parameters."""
    found = made.schema["properties"]
    assert isinstance(found, dict)
    return found


Limit = Annotated[int, Field(ge=1, lt=9, description="how many")]


@tool
def search(
    words: Annotated[str, "what to look for"],
    limit: Limit = 3,
    tags: Annotated[list[Annotated[str, Field(max_length=4)]], Field(min_length=1)] = ["a"],  # noqa: B006
    page: Annotated[int, annotated_types.Interval(ge=0, le=9)] | None = None,
    kind: Annotated[Literal["x", "y"], msgspec.Meta(description="which")] = "x",
    code: Annotated[str, Field(pattern="^[a-z]+$", title="Code", examples=["ab"])] = "a",
    step: Annotated[float, annotated_types.MultipleOf(0.5), "by how much", object()] = 0.5,
) -> str:
    """Look something up."""
    return f"{words} {limit} {tags} {page} {kind} {code} {step}"


def test_descriptions_and_bounds_reach_the_model() -> None:
    """Plain texts, pydantic's Field and annotated-types' bounds stand in the schema, also within a
    list or a union."""
    assert properties(search) == {
        "words": {"type": "string", "description": "what to look for"},
        "limit": {
            "type": "integer", "minimum": 1, "exclusiveMaximum": 9, "description": "how many",
            "default": 3,
        },
        "tags": {
            "type": "array", "minItems": 1, "items": {"type": "string", "maxLength": 4},
            "default": ["a"],
        },
        "page": {
            "anyOf": [{"type": "integer", "minimum": 0, "maximum": 9}, {"type": "null"}],
            "default": None,
        },
        "kind": {"enum": ["x", "y"], "description": "which", "default": "x"},
        "code": {
            "type": "string", "pattern": "^[a-z]+$", "title": "Code", "examples": ["ab"],
            "default": "a",
        },
        "step": {
            "type": "number", "multipleOf": 0.5, "description": "by how much", "default": 0.5,
        },
    }  # fmt: skip


@pytest.mark.parametrize(
    "sent",
    [{"limit": 0}, {"limit": 9}, {"tags": []}, {"tags": ["longer"]}, {"page": 10}, {"kind": "z"},
     {"code": "1"}, {"step": 0.3}],
)  # fmt: skip
def test_bounds_are_kept(sent: dict[str, object]) -> None:
    """What breaks a bound is told to the model, and the function is not run."""
    with pytest.raises(ParseError, match="arguments for search are wrong"):
        search.parse_arguments(json.dumps({"words": "w", **sent}))
    search.parse_arguments(json.dumps({"words": "w", "limit": 8, "page": 9, "step": 1.5}))


def upper(text: str) -> str:
    return text.upper()


@pytest.mark.parametrize(
    "hint",
    [
        Annotated[str, pydantic.AfterValidator(upper)],
        Annotated[str, pydantic.StringConstraints(to_lower=True)],
        Annotated[str, annotated_types.Predicate(str.islower)],
        list[Annotated[int, pydantic.BeforeValidator(int)]],
    ],
)
def test_a_check_that_no_schema_can_express_is_refused(hint: object) -> None:
    """It is never dropped in silence."""

    def checked(x: object) -> None: ...

    checked.__annotations__["x"] = hint
    with pytest.raises(ConfigError, match="has no form in a JSON schema"):
        tool(checked)


def test_paths() -> None:
    """A path is sent as text and arrives as a path, also within other types."""

    def read(
        path: Path, others: list[Path] | None = None, pure: PurePosixPath | None = None
    ) -> str:
        return f"{path} {others} {pure}"

    made = Tool(read)
    assert properties(made)["path"] == {"type": "string", "format": "path"}
    given = made.parse_arguments('{"path": "a/b.txt", "others": ["c"], "pure": "/d"}')
    assert given == {"path": Path("a/b.txt"), "others": [Path("c")], "pure": PurePosixPath("/d")}
    with pytest.raises(ParseError, match="Expected `str`, got `int`"):
        made.parse_arguments('{"path": 3}')


def convert(amount: float, currency: str, *, digits: int = 2) -> str:
    """Convert money.

    Nobody reads this.
    """
    return f"{amount:.{digits}f} {currency}"


def test_partials() -> None:
    """What a partial has bound is its default; bound by position, it is no parameter any more."""
    made = Tool(functools.partial(convert, currency="EUR"))
    assert (made.name, made.description) == ("convert", "Convert money.")
    assert made.schema["required"] == ["amount"]
    assert properties(made)["currency"] == {"type": "string", "default": "EUR"}
    assert made.run(made.parse_arguments('{"amount": 2}')) == "2.00 EUR"
    inner = Tool(functools.partial(functools.partial(convert, 3.0), "USD"), name="dollars")
    assert list(properties(inner)) == ["digits"]
    assert inner.run(inner.parse_arguments('{"digits": 0}')) == "3 USD"


class Lookup:
    """Looks a word up."""

    def __init__(self, words: dict[str, int]) -> None:
        self.words = words

    def __call__(self, word: Annotated[str, "the word"]) -> int:
        return self.words[word]


class Awaited:
    async def __call__(self, n: int) -> int:
        await asyncio.sleep(0)
        return n + 1


def test_objects_that_can_be_called() -> None:
    """Their class names them, its docstring describes them, and __call__ has the parameters."""
    made = Tool(Lookup({"a": 1}))
    assert (made.name, made.description) == ("Lookup", "Looks a word up.")
    assert properties(made) == {"word": {"type": "string", "description": "the word"}}
    assert made.run(made.parse_arguments('{"word": "a"}')) == 1
    waiting = Tool(Awaited(), description="Adds one.")
    assert waiting.run(waiting.parse_arguments('{"n": 1}')) == 2
    assert asyncio.run(waiting.arun({"n": 2})) == 3


class Hidden:
    pass


def test_the_parameter_without_a_json_form_is_named() -> None:
    """The error says which parameter it is, of what type, and what to write instead."""

    def fine(a: int, b: Hidden) -> None: ...

    with pytest.raises(
        ConfigError,
        match=r"parameter 'b' of the tool fine has no JSON form: type .*Hidden.*Hint it",
    ):
        Tool(fine)
