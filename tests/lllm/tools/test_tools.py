"""Tools: what a model is told of a function, and how what it sends reaches the function."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import enum
import json
import pickle
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Annotated, Literal, Optional

import msgspec
import pydantic
import pytest

from lllm.events.errors import ConfigError, ParseError
from lllm.events.model import ToolDefinition
from lllm.tools.results import result_text
from lllm.tools.tool import Tool, as_tool, tool

if TYPE_CHECKING:
    from collections.abc import Callable
    from decimal import Decimal

    from nowhere import Unresolvable  # type: ignore[import-not-found]  # on purpose


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.0


class Circle(msgspec.Struct):
    center: Point
    radius: float


class Item(pydantic.BaseModel):
    name: str


class Cart(pydantic.BaseModel):
    items: list[Item]


class Color(enum.Enum):
    RED = "red"


class Opaque:
    pass


who: ContextVar[str] = ContextVar("who", default="nobody")


@tool(description="Look a city up.", repeat=True)
def look_up(
    city: Annotated[str, msgspec.Meta(description="Its English name")],
    days: int = 3,
    unit: Literal["C", "F"] = "C",
    near: Point | None = None,
    tags: Optional[list[str]] = None,  # noqa: UP045 - the old spelling is in use
) -> str:
    return f"{city} {days} {unit} {near} {tags}"


@tool
def plain(a: int, b: int) -> int:
    """Add two
    numbers.

    The rest is for programmers.
    """
    return a + b


def schema_of(function: Callable[..., object]) -> dict[str, object]:
    return as_tool(function).schema


def test_definition() -> None:
    """The signature becomes a JSON schema; what has a default is not required."""
    assert look_up.definition == ToolDefinition(
        "look_up",
        "Look a city up.",
        {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "Its English name"},
                "days": {"type": "integer", "default": 3},
                "unit": {"enum": ["C", "F"], "default": "C"},
                "near": {"anyOf": [{"$ref": "#/$defs/Point"}, {"type": "null"}], "default": None},
                "tags": {
                    "anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}],
                    "default": None,
                },
            },
            "required": ["city"],
            "additionalProperties": False,
            "$defs": {
                "Point": {
                    "title": "Point",
                    "type": "object",
                    "properties": {
                        "x": {"type": "integer"},
                        "y": {"type": "number", "default": 0.0},
                    },
                    "required": ["x"],
                }
            },
        },
    )


def test_a_tool_is_called_like_its_function() -> None:
    """Calling a tool calls the function, by position or by name."""
    assert plain(1, b=2) == 3


def test_the_first_paragraph_describes() -> None:
    """The docstring's first paragraph is the description where none is given."""
    assert (plain.name, plain.description, plain.repeat) == ("plain", "Add two numbers.", False)
    assert as_tool(lambda_like).description == ""


def lambda_like(x):  # type: ignore[no-untyped-def]  # a tool without hints
    return x


def test_no_hint_is_anything() -> None:
    """A parameter without a type hint, or hinted as object, takes any JSON value."""

    def anything(x: object, y: dict[str, object], z: list[object] | None = None) -> None: ...

    assert schema_of(lambda_like)["properties"] == {"x": {}}
    assert as_tool(lambda_like).parse_arguments('{"x": [1, null]}') == {"x": [1, None]}
    found = as_tool(anything).parse_arguments('{"x": {"a": 1}, "y": {"b": [2]}, "z": ["c"]}')
    assert found == {"x": {"a": 1}, "y": {"b": [2]}, "z": ["c"]}


def test_a_tool_of_no_arguments() -> None:
    """A function without parameters takes the empty object, which the model may leave out."""

    def now() -> int:
        return 7

    made = as_tool(now)
    assert made.schema["properties"] == {}
    assert made.parse_arguments("") == made.parse_arguments(" {} ") == {}
    with pytest.raises(ParseError, match="It takes no arguments"):
        made.parse_arguments('{"x": 1}')


def test_as_tool_takes_both() -> None:
    """A tool stays what it is, a function and a bound method become tools."""

    class Shop:
        def price(self, item: str) -> int:
            """Tell the price."""
            return len(item)

    assert as_tool(look_up) is look_up
    made = as_tool(Shop().price)
    assert list(made.schema["required"]) == ["item"]  # type: ignore[call-overload]  # a list
    assert made.run({"item": "abc"}) == 3


def star(*words: str) -> None: ...
def options(**words: str) -> None: ...
def positional(x: int, /) -> None: ...
def unresolvable(x: Unresolvable) -> None: ...
def socket(x: Opaque) -> None: ...
def method(self: object, x: int) -> None: ...
def ärger(x: int) -> None: ...


@pytest.mark.parametrize(
    ("made_of", "says"),
    [
        (star, r"star takes `\*words: "),
        (options, r"options takes `\*\*words: "),
        (positional, r"positional takes `x: "),
        (unresolvable, "unresolvable can't be read: name 'Unresolvable' is not defined"),
        (socket, "'x' of the tool socket has no JSON form: .*Opaque"),
        (method, "bound method"),
        (ärger, "'ärger' is not one that providers take"),
        (lambda x: x, "<lambda>"),
        (Opaque(), "made from a function"),
        (Opaque, "made from a function"),
    ],
)
def test_what_no_model_can_call_is_refused(made_of: Callable[..., object], says: str) -> None:
    """A function that a model can't call by name with JSON is a ConfigError at decoration."""
    with pytest.raises(ConfigError, match=says):
        tool(made_of)


def test_the_return_hint_need_not_resolve() -> None:
    """What a tool returns is no concern of its schema."""

    def price() -> Decimal:
        raise NotImplementedError

    assert as_tool(price).name == "price"


def test_a_name_of_ones_own() -> None:
    """name= replaces the function's name, and is checked."""
    assert tool(name="find-it")(lambda x: x).name == "find-it"
    for name in ("", "a b", "a" * 65, "a\n"):
        with pytest.raises(ConfigError, match="not one that providers take"):
            tool(name=name)(lambda_like)


def test_any_parameter_name_will_do() -> None:
    """Parameters may be called what a Struct's fields can't be."""

    def odd(__struct_fields__: int, __x: int, field_0: int, self_: int = 0) -> None: ...

    found = as_tool(odd).parse_arguments('{"__struct_fields__": 1, "__x": 2, "field_0": 3}')
    assert found == {"__struct_fields__": 1, "__x": 2, "field_0": 3}


def test_defaults_stay_with_the_function() -> None:
    """A default may be anything at all; where it has no JSON form the schema doesn't show it."""
    missing = object()

    def odd(a: object = missing, b: list[int] = [1]) -> object:  # noqa: B006 - it happens
        return a is missing and b

    made = as_tool(odd)
    assert made.schema["properties"] == {
        "a": {},
        "b": {"type": "array", "items": {"type": "integer"}, "default": [1]},
    }
    assert made.run(made.parse_arguments("")) == [1]


def test_arguments_are_converted() -> None:
    """Objects become the dataclasses, Structs, dates and enums of the hints."""

    def draw(shape: Circle, day: dt.date, color: Color, ratio: float) -> None: ...

    text = '{"shape": {"center": {"x": 1}, "radius": 2}, "day": "2024-05-01", "color": "red"'
    assert as_tool(draw).parse_arguments(text + ', "ratio": 1}') == {
        "shape": Circle(Point(1, 0.0), 2.0),
        "day": dt.date(2024, 5, 1),
        "color": Color.RED,
        "ratio": 1.0,
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{}", "missing required field `city`"),
        ('{"city": "Ur", "day": 3}', "unknown field `day`"),
        ('{"city": "Ur", "days": "3"}', r"Expected `int`, got `str` - at `\$.days`"),
        ('{"city": "Ur", "days": 3.5}', r"Expected `int`, got `float` - at `\$.days`"),
        ('{"city": "Ur", "near": {"x": "1"}}', r"`\$.near.x`"),
        ('{"city": "Ur", "tags": ["a", 1]}', r"`\$.tags\[1\]`"),
        ('{"city": "Ur", "unit": "K"}', r"'K' - at `\$.unit`"),
        ('["Ur"]', "Expected `object`, got `array`"),
        ('{"city": "Ur"', "not valid JSON: .* where the text ends"),
        ("city=Ur", "not valid JSON: .* line 1, column 1, before 'city=Ur'"),
    ],
)
def test_the_model_is_told_what_to_mend(text: str, says: str) -> None:
    """Wrong arguments are a ParseError that names the tool, the mistake, and what it takes."""
    with pytest.raises(ParseError, match=says) as caught:
        look_up.parse_arguments(text)
    assert str(caught.value).startswith("The arguments for look_up are wrong: ")
    assert str(caught.value).endswith("It takes: city (required), days, unit, near, tags.")


def test_pydantic_arguments() -> None:
    """A pydantic hint gives its schema, with its definitions at the top, and its instances."""

    def buy(cart: Cart, extra: Item | None = None) -> None: ...

    made = as_tool(buy)
    assert made.parse_arguments('{"cart": {"items": [{"name": "a"}]}}') == {
        "cart": Cart(items=[Item(name="a")])
    }
    with pytest.raises(ParseError, match=r"`items.0.name`: Field required - at `\$.cart`"):
        made.parse_arguments('{"cart": {"items": [{}]}}')
    text = json.dumps(made.schema)
    definitions = made.schema["$defs"]
    assert isinstance(definitions, dict)
    for name in definitions:
        assert f'"#/$defs/{name}"' in text
    assert text.count("$ref") == len(definitions) == 1


def test_pydantic_and_struct_of_one_name() -> None:
    """Definitions of one name from pydantic and msgspec don't replace each other."""

    @dataclasses.dataclass
    class ItemToo:
        x: int

    ItemToo.__name__ = "Item"

    def buy(cart: Cart, item: object) -> None: ...

    buy.__annotations__["item"] = ItemToo
    definitions = schema_of(buy)["$defs"]
    assert isinstance(definitions, dict)
    assert len(definitions) == 2


async def greet(name: str) -> str:
    await asyncio.sleep(0)
    return f"{who.get()} greets {name}"


def greet_plainly(name: str) -> str:
    return f"{who.get()} greets {name}"


def greet_later(name: str) -> object:
    return greet(name)


@pytest.mark.parametrize("function", [greet, greet_plainly, greet_later])
def test_tools_run_anywhere(function: Callable[..., object]) -> None:
    """Plain and async tools run from plain code, on a loop, and from plain code below a loop, and
    see the context variables of their caller."""
    made = as_tool(function)

    async def on_loop() -> object:
        return await made.arun({"name": "Ann"})

    async def below_loop() -> object:
        return made.run({"name": "Ann"})

    token = who.set("Bob")
    try:
        assert made.run({"name": "Ann"}) == "Bob greets Ann"
        assert asyncio.run(on_loop()) == "Bob greets Ann"
        assert asyncio.run(below_loop()) == "Bob greets Ann"
    finally:
        who.reset(token)


def test_a_plain_tool_does_not_hold_up_the_loop() -> None:
    """While a plain tool waits in arun, the loop goes on."""
    gate = threading.Event()

    def wait() -> bool:
        return gate.wait(10)

    async def main() -> object:
        waiting = asyncio.create_task(as_tool(wait).arun({}))
        await asyncio.sleep(0)
        gate.set()
        return await waiting

    assert asyncio.run(main()) is True


@pytest.mark.parametrize("error", [KeyError("k"), StopIteration(), SystemExit(3)])
def test_what_a_tool_raises_is_raised(error: BaseException) -> None:
    """An error of a tool reaches the caller, even one that no future can carry."""

    def fail() -> None:
        raise error

    expected = RuntimeError if isinstance(error, StopIteration) else type(error)
    with pytest.raises(expected):
        as_tool(fail).run({})
    if not isinstance(error, SystemExit):  # asyncio ends its loop for that one
        with pytest.raises(expected):
            asyncio.run(as_tool(fail).arun({}))


def cycle() -> list[object]:
    items: list[object] = []
    items.append(items)
    return items


class Rude:
    def __repr__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is\n", "as it is\n"),
        ("", ""),
        (None, "null"),
        (True, "true"),
        (1.5, "1.5"),
        ({"a": [1, (2, 3)], 4: "ü"}, '{"a":[1,[2,3]],"4":"ü"}'),
        (Circle(Point(1, 2.0), 3.0), '{"center":{"x":1,"y":2.0},"radius":3.0}'),
        ([Item(name="a")], '[{"name":"a"}]'),
        (dt.date(2024, 5, 1), '"2024-05-01"'),
        (Color.RED, '"red"'),
        ([ValueError("no")], "[\"ValueError('no')\"]"),
        (["\ud83d"], '["\\ud83d"]'),
        (cycle(), '[{"$lllm":"cycle","type":"builtins.list"}]'),
    ],
)
def test_results_are_readable(value: object, text: str) -> None:
    """Text is given as it is, everything else as compact JSON in its customary forms."""
    assert result_text(value) == text


def test_no_result_is_refused() -> None:
    """Even an object whose repr raises has a text."""
    assert "repr raised RuntimeError" in result_text([Rude()])


def test_tools_can_be_pickled() -> None:
    """A tool goes to another process: a decorated one as itself, another one made anew."""
    assert pickle.loads(pickle.dumps(look_up)) is look_up
    again: Tool[..., object] = pickle.loads(
        pickle.dumps(tool(name="other", description="d", repeat=True)(greet_plainly))
    )
    assert (again.name, again.description, again.repeat) == ("other", "d", True)
    assert again.function is greet_plainly
