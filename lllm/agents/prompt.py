"""Prompts: texts with placeholders, and the form of the answer.

A placeholder is a plain name in braces, filled as `str.format` does. `{user.name}` and `{rows[0]}`
are refused, because the author of a template could otherwise reach the whole program through any
argument (`{a.__class__.__init__.__globals__}`).
"""

from __future__ import annotations

import copy
import string
from typing import TYPE_CHECKING, Any, Final, Generic, cast, overload

import msgspec

from lllm.events.errors import ConfigError, ParseError, PromptError
from lllm.tools.json_schema import PydanticModel, explain, read_json, schema_of
from lllm.tools.tool import Tool, as_tool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from typing_extensions import TypeVar

    T = TypeVar("T", default=Any)  # Python 3.13 has this in the standard library
else:
    from typing import TypeVar

    T = TypeVar("T")

_FENCES = ("```", "```json")


class Prompt(Generic[T]):
    """A prompt for a model, with its tools and the form of its answer.

    For a type checker it is a `Prompt[T]`. T is the type of a parsed answer: the return type of the
    parser, otherwise the format, otherwise None.

    Args:
        path: The name of the prompt in errors and in the log.
        prompt: The text, with `{name}` placeholders; `{{` and `}}` stand for braces.
        tools: The tools that the model may call; plain functions are converted to tools.
        parser: A function that gets the answer's text and returns the parsed value, or raises
            ParseError. If there is a format, too, it is only sent to the model.
        format: A msgspec.Struct or pydantic class. The model is sent its JSON schema, and the
            answer is parsed as an instance.

    Attributes:
        placeholders: The names of the placeholders, each once.

    Raises:
        PromptError: The text is not a valid template.
        ConfigError: Another argument is invalid.
    """

    __slots__ = ("_schema", "format", "parser", "path", "placeholders", "prompt", "tools")

    @overload
    def __init__(
        self,
        path: str,
        prompt: str,
        tools: Sequence[Callable[..., object]] = (),
        *,
        parser: Callable[[str], T],
        format: type | None = None,
    ) -> None: ...

    @overload
    def __init__(
        self,
        path: str,
        prompt: str,
        tools: Sequence[Callable[..., object]] = (),
        parser: None = None,
        *,
        format: type[T],
    ) -> None: ...

    @overload
    def __init__(
        self: Prompt[None],
        path: str,
        prompt: str,
        tools: Sequence[Callable[..., object]] = (),
        parser: None = None,
        format: None = None,
    ) -> None: ...

    def __init__(
        self,
        path: str,
        prompt: str,
        tools: Sequence[Callable[..., object]] = (),
        parser: Callable[[str], T] | None = None,
        format: type | None = None,  # noqa: A002 - the public name; `format()` isn't used here
    ) -> None:
        if not isinstance(path, str) or not path:
            raise ConfigError(f"A prompt's path is a text that is not empty, not {path!r}.")
        if not isinstance(prompt, str):
            raise ConfigError(f"The text of the prompt {path!r} is not a text: {prompt!r}.")
        if parser is not None and not callable(parser):
            raise ConfigError(f"The parser of the prompt {path!r} can't be called: {parser!r}.")
        self.path: Final = path
        self.prompt: Final = prompt
        self.tools: Final[tuple[Tool[..., object], ...]] = tuple(as_tool(item) for item in tools)
        self.parser: Final = parser
        self.format: Final = format
        self.placeholders: Final = _placeholders(prompt, path)
        self._schema: Final = _format_schema(format, path)

    def __repr__(self) -> str:
        return f"<Prompt {self.path}>"

    @property
    def parses(self) -> bool:
        """True if the prompt has a parser or a format."""
        return self.parser is not None or self.format is not None

    def render(self, args: Mapping[str, object] | None = None) -> str:
        """Fill the placeholders.

        Args:
            args: Values by name; values without a placeholder are ignored.

        Returns:
            The text.

        Raises:
            PromptError: A placeholder has no value, or one that does not fit its format specifier.
        """
        given = {} if args is None else args
        missing = [name for name in self.placeholders if name not in given]
        if missing:
            raise PromptError(
                f"The prompt {self.path!r} needs {', '.join(missing)}, and got "
                f"{', '.join(map(str, given)) or 'no arguments'}."
            )
        try:
            return self.prompt.format_map(given)
        except (ValueError, TypeError) as error:
            raise PromptError(f"The prompt {self.path!r} can't be filled: {error}.") from error

    def output_schema(self) -> dict[str, object] | None:
        """Make the JSON schema that the answer must match.

        Returns:
            A copy of the schema; None if there is no `format`.
        """
        return copy.deepcopy(self._schema)

    def parse(self, text: str) -> T:
        """Parse an answer.

        Args:
            text: The text of the model's answer.

        Returns:
            The value that the parser returns, otherwise an instance of `format`; None without
            either.

        Raises:
            ParseError: The answer does not fit, or the parser raised a ValueError; the message
                tells the model what to correct. Any other error of the parser is a bug in it, and
                is raised unchanged.
        """
        if self.parser is not None:
            try:
                return self.parser(text)
            except ParseError:
                raise
            except (ValueError, msgspec.DecodeError) as error:
                raise ParseError(explain(error)) from error
        if self.format is None:
            return cast(T, None)
        try:
            return cast(T, read_json(_without_fence(text), self.format))
        except ParseError as error:
            raise ParseError(
                f"The answer does not fit its format: {error} Answer with the JSON alone."
            ) from error


def _placeholders(template: str, path: str) -> tuple[str, ...]:
    try:
        names = list(dict.fromkeys(_names(template)))
    except ValueError as error:
        raise PromptError(
            f"The prompt {path!r} is not a template: {error}. Write a literal brace twice."
        ) from error
    for name in names:
        if not name.isidentifier():
            raise PromptError(
                f"The prompt {path!r} has the placeholder {{{name}}}. A placeholder is a plain "
                "name: pass the value itself as an argument. Write a literal brace twice."
            )
    return tuple(names)


def _names(template: str) -> Iterator[str]:
    """Find the names of all placeholders, also in format specifiers: `{x:{width}}`."""
    for _, name, specifier, _ in string.Formatter().parse(template):
        if name is not None:
            yield name
            yield from _names(specifier or "")


def _format_schema(format_: object, path: str) -> dict[str, object] | None:
    if format_ is None:
        return None
    known = isinstance(format_, PydanticModel) or (
        isinstance(format_, type) and issubclass(format_, msgspec.Struct)
    )
    if not known or not isinstance(format_, type):
        raise ConfigError(
            f"The format of the prompt {path!r} is a msgspec.Struct or pydantic class, not "
            f"{format_!r}."
        )
    try:
        return schema_of(format_)
    except Exception as error:  # a schema hook of a user's type may raise anything
        raise ConfigError(f"The format of the prompt {path!r} has no schema: {error}") from error


def _without_fence(text: str) -> str:
    """Get the content of a text's only code fence; the text itself without exactly one."""
    # Not splitlines(), because a JSON text may contain U+2028 and similar characters.
    lines = text.split("\n")
    fences = [i for i, line in enumerate(lines) if line.strip().lower() in _FENCES]
    if len(fences) != 2:
        return text
    begin, end = fences
    return "\n".join(lines[begin + 1 : end])
