"""Prompts: filling holes, schemas of answers, and reading answers."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Literal

import msgspec
import pydantic
import pytest

from lllm.agents.prompt import Prompt
from lllm.events.errors import ConfigError, ParseError, PromptError
from lllm.tools.tool import tool


class City(msgspec.Struct):
    name: str
    people: int
    kind: Literal["old", "new"] = "old"


class Node(msgspec.Struct):
    kids: list[Node] = []


class Town(pydantic.BaseModel):
    name: str
    people: int


class Land(pydantic.BaseModel):
    towns: list[Town]


class Region(msgspec.Struct):
    capital: Town
    towns: list[Town] = []


def look_up(city: str) -> str:
    """Look a city up."""
    return city


def read_number(text: str) -> int:
    return int(text)


def test_holes_are_filled() -> None:
    """A plain name in braces is filled from the arguments, doubled braces stand for braces."""
    prompt = Prompt("a/b", 'Say {word!r} {n:03d} times as {{"json": 1}}.')
    assert prompt.render({"word": "hi", "n": 7}) == "Say 'hi' 007 times as {\"json\": 1}."
    assert prompt.placeholders == ("word", "n")


def test_arguments_are_not_templates() -> None:
    """Braces in an argument's value are text."""
    assert Prompt("p", "{x}").render({"x": "{y} {{"}) == "{y} {{"


def test_extra_arguments_are_left_aside() -> None:
    """An argument without a hole is no error, and a prompt without holes needs none."""
    assert Prompt("p", "Hello").render() == "Hello"
    assert Prompt("p", "{a}").render({"a": 1, "b": 2}) == "1"


def test_missing_arguments_are_named() -> None:
    """A missing argument is a PromptError that names it, the prompt, and what was given."""
    with pytest.raises(PromptError, match=r"'tasks/sum' needs b, width, and got a\."):
        Prompt("tasks/sum", "{a} {b:{width}}").render({"a": 1})
    with pytest.raises(PromptError, match="needs a, and got no arguments"):
        Prompt("p", "{a}").render()


@pytest.mark.parametrize("hole", ["{a.__class__}", "{a[0]}", "{}", "{0}", "{x:{a.b}}", "{a b}"])
def test_only_plain_names_are_holes(hole: str) -> None:
    """Attributes, items and positions are refused when the prompt is made."""
    with pytest.raises(PromptError, match=r"'p'.*placeholder"):
        Prompt("p", hole)


@pytest.mark.parametrize("text", ["{", "}", "{a", '{"json": "{a}"'])
def test_a_broken_template_is_refused(text: str) -> None:
    """A text that is no template is a PromptError when the prompt is made."""
    with pytest.raises(PromptError, match="'p'"):
        Prompt("p", text)


def test_a_value_that_does_not_fit_its_specifier() -> None:
    """A format specifier that the value can't take is a PromptError."""
    with pytest.raises(PromptError, match=r"'p' can't be filled: .*'d'"):
        Prompt("p", "{n:d}").render({"n": "seven"})


def test_tools_are_tools() -> None:
    """Functions in the list of tools become tools, tools stay as they are."""
    made = tool(look_up)
    prompt = Prompt("p", "", tools=[look_up, made])
    assert [item.name for item in prompt.tools] == ["look_up", "look_up"]
    assert prompt.tools[1] is made


@pytest.mark.parametrize(
    ("path", "text", "tools", "parser", "format_"),
    [
        ("", "x", (), None, None),
        ("p", 3, (), None, None),
        ("p", "x", [3], None, None),
        ("p", "x", (), "json", None),
        ("p", "x", (), None, dict),
        ("p", "x", (), None, City("a", 1)),
        ("p", "x", (), None, Town(name="a", people=1)),
    ],
)
def test_wrong_arguments_are_config_errors(
    path: str, text: str, tools: list[object], parser: object, format_: object
) -> None:
    """What a prompt can't be made of is refused at once."""
    with pytest.raises(ConfigError):
        Prompt(path, text, tools, parser, format_)  # type: ignore[arg-type]  # wrong on purpose


def test_struct_schema() -> None:
    """The schema of a Struct stands at the root, where providers want it."""
    schema = Prompt("p", "", format=City).output_schema()
    assert schema is not None
    assert (schema["type"], schema["required"]) == ("object", ["name", "people"])
    assert "$ref" not in schema
    assert "$defs" not in schema


def test_recursive_schema() -> None:
    """A recursive type keeps its definition beside the copy at the root."""
    schema = Prompt("p", "", format=Node).output_schema()
    assert schema is not None
    assert schema["type"] == "object"
    definitions = schema["$defs"]
    assert isinstance(definitions, dict)
    assert list(definitions) == ["Node"]


def test_pydantic_schema() -> None:
    """A pydantic class gives the schema that pydantic makes of it."""
    schema = Prompt("p", "", format=Land).output_schema()
    assert schema == Land.model_json_schema() | {"$defs": schema and schema["$defs"]}


def test_changing_a_schema_changes_no_prompt() -> None:
    """Every caller gets a schema of its own."""
    prompt = Prompt("p", "", format=City)
    schema = prompt.output_schema()
    assert schema is not None
    schema.clear()
    assert prompt.output_schema() != {}


def test_no_format_has_no_schema() -> None:
    """Without a format there is no schema and nothing to parse."""
    prompt = Prompt("p", "")
    assert prompt.output_schema() is None
    assert not prompt.parses
    assert prompt.parse("anything") is None


ANSWER = '{"name": "Ur", "people": 3}'


@pytest.mark.parametrize(
    "text",
    [
        ANSWER,
        f"```json\n{ANSWER}\n```",
        f"Here it is:\n\n```JSON\n{ANSWER}\n```\nAnything else?",
        f"```\n{ANSWER}\n```",
        f"```json\r\n{ANSWER}\r\n```\r\n",
    ],
)
def test_json_is_read_with_or_without_a_fence(text: str) -> None:
    """The JSON may stand alone or in one fence."""
    assert Prompt("p", "", format=City).parse(text) == City("Ur", 3)
    assert Prompt("p", "", format=Town).parse(text) == Town(name="Ur", people=3)


def test_lone_surrogates_are_read() -> None:
    """A lone surrogate in an answer is no reason to refuse it."""
    found = Prompt("p", "", format=City).parse('{"name": "\\ud83d", "people": 3}')
    assert found == City("\ud83d", 3)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"name": "Ur"}', "missing required field `people`"),
        ('{"name": "Ur", "people": "3"}', r"Expected `int`, got `str` - at `\$.people`"),
        ('{"name": "Ur", "people": 3, "kind": "odd"}', "'odd'"),
        ('{"name": "Ur" "people": 3}', "line 1, column 15, before '\"people\": 3}'"),
        ('{"name": "Ur",', "where the text ends"),
        ("Ur has three.", "not valid JSON"),
        ("", "not valid JSON"),
        ('{"name": "Ur", "people": NaN}', "no NaN"),
        ("\ud83d", "not valid JSON"),
    ],
)
def test_a_model_is_told_what_to_mend(text: str, says: str) -> None:
    """A wrong answer is a ParseError that says what is wrong and where."""
    with pytest.raises(ParseError, match=says) as caught:
        Prompt("p", "", format=City).parse(text)
    assert str(caught.value).endswith("Answer with the JSON alone.")


def test_pydantic_complaints_are_short() -> None:
    """A pydantic error is told by path and message, without its links."""
    with pytest.raises(ParseError) as caught:
        Prompt("p", "", format=Land).parse('{"towns": [{"name": "Ur", "people": "x"}, {}]}')
    assert "`towns.0.people`: Input should be a valid integer" in str(caught.value)
    assert "`towns.1.name`: Field required" in str(caught.value)
    assert "http" not in str(caught.value)


def test_pydantic_within_a_struct() -> None:
    """A pydantic model may be a field of a Struct, in the schema and in the answer."""
    prompt = Prompt("p", "", format=Region)
    town = Town(name="Ur", people=3)
    assert prompt.parse(f'{{"capital": {ANSWER}, "towns": [{ANSWER}]}}') == Region(town, [town])
    with pytest.raises(ParseError, match=r"`people`: Field required - at `\$.towns\[0\]`"):
        prompt.parse(f'{{"capital": {ANSWER}, "towns": [{{"name": "Ur"}}]}}')


def test_deep_nesting_is_a_parse_error() -> None:
    """An answer that is nested too deeply for any decoder is told so."""

    class Anything(msgspec.Struct):
        value: object

    with pytest.raises(ParseError, match="nested too deeply"):
        Prompt("p", "", format=Anything).parse('{"value": ' + "[" * 100_000)


def test_the_parser_has_the_last_word() -> None:
    """With a parser and a format, the parser reads the answer and the format is only sent."""
    prompt = Prompt("p", "", parser=str.upper, format=City)
    assert prompt.parse("abc") == "ABC"
    assert prompt.output_schema() is not None


def test_a_parser_may_return_none() -> None:
    """None from a parser is an answer: `parses` tells it from nothing to parse."""
    prompt = Prompt("p", "", parser=lambda _: None)
    assert prompt.parses
    assert prompt.parse("x") is None


def raising(error: Exception) -> Prompt:
    def parser(_: str) -> object:
        raise error

    return Prompt("p", "", parser=parser)


def test_a_parse_error_is_raised_as_it_is() -> None:
    """The ParseError of a parser is the very one that is raised."""
    error = ParseError("Say yes or no.")
    with pytest.raises(ParseError) as caught:
        raising(error).parse("perhaps")
    assert caught.value is error


@pytest.mark.parametrize(
    "error", [ValueError("no number"), msgspec.DecodeError("no number"), UnicodeError("no number")]
)
def test_a_value_error_of_a_parser_is_a_parse_error(error: Exception) -> None:
    """A parser's ValueError, or msgspec's, is a ParseError with its words."""
    with pytest.raises(ParseError, match=r"\Ano number\Z"):
        raising(error).parse("x")


def test_an_empty_value_error_has_a_message() -> None:
    """A ValueError without words is told by its type."""
    with pytest.raises(ParseError, match=r"\AValueError\Z"):
        raising(ValueError()).parse("x")


def test_a_bug_in_a_parser_is_raised() -> None:
    """Any other error of a parser is its own."""
    with pytest.raises(KeyError):
        raising(KeyError("k")).parse("x")


def test_prompts_can_be_pickled() -> None:
    """A prompt goes to another process with its tools, parser and format."""
    prompt = Prompt("p", "{a}", tools=[look_up], parser=read_number, format=City)
    again: Prompt = pickle.loads(pickle.dumps(prompt))
    assert again.render({"a": 1}) == "1"
    assert again.parse("3") == 3
    assert again.output_schema() == prompt.output_schema()
    assert again.tools[0].function is look_up


def test_pydantic_is_not_imported() -> None:
    """Making and using a prompt imports pydantic only where the format brings it."""
    code = """
import sys, msgspec
from lllm.agents.prompt import Prompt
class City(msgspec.Struct):
    name: str
prompt = Prompt("p", "", format=City)
prompt.output_schema(), prompt.parse('{"name": "Ur"}')
assert "pydantic" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
