"""Writes a recorded request to a model as code that makes it again: curl, Python or JSON.

There is no key in it: the code reads the key from the environment.
"""

from __future__ import annotations

import json
import pprint
import shlex
from collections.abc import Mapping
from typing import Literal, NamedTuple, get_args

from starlette.requests import Request as HTTPRequest
from starlette.responses import PlainTextResponse, Response

from lllm.events.errors import ConfigError, InvokeError, ReplayError
from lllm.events.model import LLMRequested
from lllm.events.values.json_values import from_plain
from lllm.invokers import Request
from lllm.invokers.dialects.catalog import CHAT, MESSAGES, RESPONSES
from lllm.invokers.dialects.provider_json import mapping
from lllm.replay.recorded_session import RecordedSession, SentRequest
from lllm.replay.recording_reader import read_recording
from lllm.store.log_store import session_host
from lllm.terminal_safe import UNSAFE
from lllm.web.pages import StorePages

CodeForm = Literal["curl", "python", "json"]
FORMS: tuple[CodeForm, ...] = get_args(CodeForm)
_ANTHROPIC_VERSION = "2023-06-01"  # https://docs.anthropic.com/en/api/versioning


class _Target(NamedTuple):
    """Where and how a request is sent."""

    url: str
    base: str
    key: str
    sdk: str
    method: str
    named: tuple[str, ...]


def request_as_code(session: RecordedSession, number: int, form: CodeForm) -> str:
    """Write a recorded request as code.

    Args:
        session: The session that made it.
        number: The number of the request in the session.
        form: "curl", "python" or "json".

    Returns:
        The code, or the JSON of the body.

    Raises:
        ReplayError: The request is not in the recording, or can't be written as code.
    """
    sent = session.sent(number)
    if sent is None:
        raise ReplayError(f"The recording has no request {number}.")
    body = _body(sent)
    if form == "json":
        return _json(body) + "\n"
    target = _target(sent.requested)
    return _curl(target, body) if form == "curl" else _python(target, body)


def _body(sent: SentRequest) -> dict[str, object]:
    requested, definition = sent.requested, sent.definition
    params = {} if definition is None else dict(mapping(from_plain(definition.params)))
    params.update(mapping(from_plain(requested.params)))
    schema = None if definition is None else definition.output_schema
    request = Request(
        model=requested.model,
        messages=tuple(sent.messages),
        tools=() if definition is None else definition.tools,
        params=params,
        output_schema=dict(mapping(schema)) if isinstance(schema, Mapping) else None,
        tool_choice=requested.tool_choice if requested.tool_choice in ("auto", "none") else None,  # type: ignore[arg-type]  # checked
    )
    dialect = {"messages": MESSAGES, "responses": RESPONSES}.get(requested.api, CHAT)
    if requested.operation not in ("chat", "responses", "messages"):
        raise ReplayError(f"A request for {requested.operation!r} can't be written as code.")
    try:
        return dialect.payload(request, stream=False)
    except (InvokeError, ConfigError) as error:
        raise ReplayError(f"This request can't be written as code. {error}") from error


def _target(requested: LLMRequested) -> _Target:
    """Find the address of a request, and the name of the variable that has its key."""
    anthropic = requested.api == "messages"
    host = requested.host or ("api.anthropic.com" if anthropic else "api.openai.com")
    place = host if requested.port is None else f"{host}:{requested.port}"
    scheme = "http" if host in ("localhost", "127.0.0.1", "::1") else "https"
    base = f"{scheme}://{place}"
    named: tuple[str, ...] = ("model", "messages", "max_tokens")
    if anthropic:
        key = "ANTHROPIC_API_KEY"
        return _Target(f"{base}/v1/messages", base, key, "Anthropic", "messages.create", named)
    name = "".join(one if one.isascii() and one.isalnum() else "_" for one in requested.provider)
    key = f"{name.upper()}_API_KEY" if name else "OPENAI_API_KEY"
    if requested.api == "responses":
        named, method = ("model", "input"), "responses.create"
        return _Target(f"{base}/v1/responses", f"{base}/v1", key, "OpenAI", method, named)
    named, method = ("model", "messages"), "chat.completions.create"
    return _Target(f"{base}/v1/chat/completions", f"{base}/v1", key, "OpenAI", method, named)


def _curl(target: _Target, body: dict[str, object]) -> str:
    if target.sdk == "Anthropic":
        headers = [f'"x-api-key: ${target.key}"', f'"anthropic-version: {_ANTHROPIC_VERSION}"']
    else:
        headers = [f'"Authorization: Bearer ${target.key}"']
    lines = [f"curl {shlex.quote(target.url)}"]
    lines += [f"-H {header}" for header in (*headers, '"Content-Type: application/json"')]
    lines.append(f"-d {shlex.quote(_json(body))}")
    return " \\\n  ".join(lines) + "\n"


def _python(target: _Target, body: dict[str, object]) -> str:
    module = target.sdk.lower()
    others = {name: value for name, value in body.items() if name not in target.named}
    arguments = [f"    {name}=body[{name!r}]," for name in target.named if name in body]
    if others:
        arguments.append(f"    extra_body={{name: body[name] for name in {sorted(others)!r}}},")
    return "\n".join(
        [
            "import os",
            "",
            f"from {module} import {target.sdk}",
            "",
            f"body = {pprint.pformat(body, width=100, sort_dicts=False)}",
            f"client = {target.sdk}(base_url={target.base!r}, api_key=os.environ[{target.key!r}])",
            f"answer = client.{target.method}(",
            *arguments,
            ")",
            "print(answer)",
            "",
        ]
    )


def _json(body: dict[str, object]) -> str:
    """Write JSON in which characters that hide or turn text around are escapes."""
    text = json.dumps(body, ensure_ascii=False, indent=2, default=str)
    return UNSAFE.sub(lambda found: "\n" if found[0] == "\n" else json.dumps(found[0])[1:-1], text)


def step_code(pages: StorePages, request: HTTPRequest) -> Response:
    """Answer with the request of a step as code: curl, Python, or the JSON of its body.

    Args:
        pages: Has the store.
        request: The HTTP request; its parameter `as` is "curl", "python" or "json".
    """
    form = request.query_params.get("as", "json")
    if form not in FORMS:
        raise ValueError(f"as is one of {', '.join(FORMS)}; not {form!r}")
    session_id = pages.store.find_id(request.path_params["owner"])
    events = session_host(pages.store).reader.recording(session_id)
    recording = read_recording(events, session_id, repr(pages.store.backend), skip_unknown=True)
    return PlainTextResponse(
        request_as_code(recording, request.path_params["request_number"], form)
    )
