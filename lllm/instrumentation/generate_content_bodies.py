"""Converts the body of a captured generateContent request to lllm's types.

https://ai.google.dev/api/generate-content#request-body. Whatever lllm has no type for is kept
unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping

from lllm.events.model import Content, Part, ToolDefinition
from lllm.instrumentation.request_bodies import CapturedRequest, ConversationForm
from lllm.invokers.dialects.generate_content import part_of, said_by_model
from lllm.invokers.dialects.provider_json import arguments_text, items, mapping, text

_SYSTEM = ("systemInstruction", "system_instruction")
_LASTING = ("safetySettings", "toolConfig", "labels")
_ELSEWHERE = ("model", "stream", "contents", "tools", *_SYSTEM, *_LASTING)


def _first(body: Mapping[str, object]) -> list[Content]:
    """Read the system prompt, which is outside of the list of messages."""
    found = (mapping(body.get(name)) for name in _SYSTEM)
    said = [mapping(one) for system in found for one in items(system.get("parts"))]
    return [Content("system", tuple(map(part_of, said)))] if said else []


def _each(given: object) -> list[Content]:
    """Read one message; results of functions in it become separate messages."""
    message = mapping(given)
    pieces = [mapping(one) for one in items(message.get("parts"))]
    if message.get("role") == "model":
        parts, calls = said_by_model(pieces)
        return [Content("assistant", parts, calls)]
    results = [_result(one) for one in pieces if "functionResponse" in one]
    others = tuple(part_of(one) for one in pieces if "functionResponse" not in one)
    return results if results and not others else [*results, Content("user", others)]


def _result(piece: Mapping[str, object]) -> Content:
    """Read the result of a function; it names the function, and its call only if that has an id."""
    told = mapping(piece.get("functionResponse"))
    called = text(told.get("id")) or text(told.get("name")) or ""
    plain = len(piece) == 1 and told.keys() <= {"id", "name", "response"}
    said = arguments_text(told.get("response"), ascii_only=False)
    part = Part("text", said, data=None if plain else dict(piece))
    return Content("tool", (part,), call_id=called)


def _others(body: Mapping[str, object], contents: list[Content]) -> CapturedRequest:
    """Read everything in a body except its messages."""
    tools: list[ToolDefinition] = []
    others: list[object] = []
    for given in items(body.get("tools")):
        tool = mapping(given)
        declared = items(tool.get("functionDeclarations"))
        tools += [_tool(mapping(one)) for one in declared]
        rest = {name: value for name, value in tool.items() if name != "functionDeclarations"}
        if rest or not declared:
            others.append(rest)
    lasting = {name: body[name] for name in _LASTING if name in body}
    return CapturedRequest(
        model=str(body.get("model") or ""),
        contents=tuple(contents),
        tools=tuple(tools),
        lasting=lasting | ({"tools": others} if others else {}),
        params={name: value for name, value in body.items() if name not in _ELSEWHERE},
        stream=body.get("stream") is True,
    )


def _tool(declared: Mapping[str, object]) -> ToolDefinition:
    schema = declared.get("parametersJsonSchema", declared.get("parameters"))
    return ToolDefinition(
        name=str(declared.get("name") or ""),
        description=str(declared.get("description") or ""),
        schema={"type": "object", "properties": {}} if schema is None else schema,
    )


FORM = ConversationForm("contents", _each, _first, ("contents", *_SYSTEM), _others)
