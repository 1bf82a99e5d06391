"""Translates what DSPy tells its callbacks, and keeps in its history, to what lllm records.

A callback gets the texts of an answer only. The entry that the language model adds to its history
has the provider's answer and its usage: https://dspy.ai/learn/programming/language_models/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import msgspec

from lllm.events.model import Content
from lllm.events.values.json_values import to_plain
from lllm.instrumentation.frameworks.observed_call import Biller
from lllm.instrumentation.frameworks.provider_bodies import answer_in
from lllm.instrumentation.request_bodies import CHAT, CapturedRequest
from lllm.invokers import Answer
from lllm.invokers.dialects import chat_completions
from lllm.invokers.dialects.provider_json import items, mapping
from lllm.invokers.http.endpoint import host_and_port
from lllm.invokers.litellm.invoker import provider_of
from lllm.pricing.provider_hosts import biller_at
from lllm.pricing.usage import of_chat

# Options of a language model that are not sent as such.
_NOT_SENT = ("api_base", "api_key", "api_version", "base_url", "headers", "extra_headers", "client")
_LATEST = 100  # how far back the history is searched: other threads may have added entries
_FROM_CACHE = "served from DSPy's cache"


def request_of(model: object, inputs: Mapping[str, object]) -> CapturedRequest:
    """Read a request.

    Args:
        model: DSPy's language model.
        inputs: The arguments that it is called with.

    Returns:
        The request in lllm's terms.
    """
    given = {**mapping(getattr(model, "kwargs", None)), **mapping(inputs.get("kwargs"))}
    body = {key: one for key, one in given.items() if one is not None and key not in _NOT_SENT}
    prompt = inputs.get("prompt")
    asked = inputs.get("messages")
    if asked is None and prompt is not None:
        asked = _messages_of(prompt)
    name = str(getattr(model, "model", ""))
    return CHAT.read({**body, "model": name.partition("/")[2] or name, "messages": asked})


def _messages_of(prompt: object) -> list[object]:
    """Read a prompt: a text, or a request in DSPy's own form."""
    messages = getattr(prompt, "messages", None)
    if isinstance(prompt, str) or messages is None:
        return [{"role": "user", "content": str(prompt)}]
    system = getattr(prompt, "system", None)
    found: list[object] = [{"role": "system", "content": str(system)}] if system else []
    for one in messages:
        texts = [str(getattr(part, "text", part)) for part in getattr(one, "parts", ())]
        found.append({"role": str(getattr(one, "role", "user")), "content": "".join(texts)})
    return found


def biller_of(model: object, provider: str | None) -> Biller:
    """Find who bills a language model.

    Args:
        model: DSPy's language model.
        provider: The provider that the user named; None to find it.

    Returns:
        The provider, and the host if the model names one.
    """
    options = mapping(getattr(model, "kwargs", None))
    url = options.get("api_base") or options.get("base_url")
    if not isinstance(url, str) or not url.startswith("http"):
        return Biller(provider or provider_of(str(getattr(model, "model", ""))))
    host, port = host_and_port(url)
    return Biller(provider or biller_at(url, host, port), host, port)


def entry_of(model: object, outputs: object) -> Mapping[str, object] | None:
    """Find what a language model has added to its history for an answer.

    Args:
        model: DSPy's language model.
        outputs: The outputs that the callback gets; the entry holds the same object.

    Returns:
        The entry; None if there is none, for example because the history is switched off.
    """
    history = getattr(model, "history", None)
    latest = list(history[-_LATEST:]) if isinstance(history, list) else []
    for one in reversed(latest):
        entry = mapping(one)
        if entry.get("outputs") is outputs or entry.get("response") is outputs:
            return entry
    return None


def answer_of(entry: Mapping[str, object], outputs: object, model: str) -> Answer:
    """Read an answer.

    Args:
        entry: The entry in the history; empty if there is none.
        outputs: The outputs that the callback gets.
        model: The requested model, used if the answer names none.

    Returns:
        The answer in lllm's terms.
    """
    response = entry.get("response")
    if isinstance(response, tuple):
        response = response[0] if response else None
    body = _body_of(response)
    counts = mapping(to_plain(entry.get("usage")))
    found = answer_in(body, model)
    if found is None:
        found = chat_completions.answer(
            _chat_body(response, outputs, entry), model=model, request_id=None
        )
    if not counts and (found.usage is not None or _has_counts(response)):
        return msgspec.structs.replace(found, usage=None, usage_raw=None, free=_FROM_CACHE)
    if found.usage is None and counts:
        found = msgspec.structs.replace(found, usage=of_chat(counts), usage_raw=dict(counts))
    return found


def _body_of(response: object) -> Mapping[str, object]:
    """The body that the provider sent, where DSPy has kept it."""
    sent = mapping(getattr(response, "provider_data", None))
    if sent:
        return sent
    dump = getattr(response, "model_dump", None)
    if callable(dump):
        return mapping(cast("Callable[..., object]", dump)(exclude_none=True))
    return mapping(response)


def _has_counts(response: object) -> bool:
    return bool(getattr(getattr(response, "usage", None), "input_tokens", None))


def _chat_body(response: object, outputs: object, entry: Mapping[str, object]) -> object:
    """Write an answer in the form of Chat Completions."""
    first = next(iter(items(outputs)), outputs)
    output = mapping(first) or {"text": first if isinstance(first, str) else None}
    text = getattr(response, "text", None) or output.get("text")
    message: dict[str, object] = {"role": "assistant", "content": text or ""}
    if output.get("reasoning_content"):
        message["reasoning_content"] = output["reasoning_content"]
    if output.get("tool_calls"):
        message["tool_calls"] = to_plain(output["tool_calls"])
    reason = getattr(response, "finish_reason", None)
    return {
        "id": getattr(response, "id", None),
        "model": entry.get("response_model"),
        "choices": [{"message": message, "finish_reason": reason}],
    }


def status_of(error: BaseException) -> int | None:
    """Read the HTTP status of an error of DSPy; None if no server answered."""
    status = getattr(error, "status", None)
    return status if isinstance(status, int) else None


def name_of(module: object) -> str:
    """Name a module: its class, or its signature where that has a name and the class is DSPy's."""
    kind = type(module)
    if kind.__module__.partition(".")[0] == "dspy":
        signature = getattr(module, "signature", None)
        name = getattr(signature, "__name__", "")
        if name and name not in ("Signature", "StringSignature"):
            return str(name)
    return kind.__name__


def names_inside(module: object) -> dict[int, str]:
    """Name the predictors of a program by their attributes, such as "plan" or "answer".

    Args:
        module: The program.

    Returns:
        The names, by the ids of the predictors. The `predict` inside of one of DSPy's modules has
        the name of that module, and where that is the program itself, the program's.
    """
    listed = getattr(module, "named_predictors", None)
    found = cast("Callable[[], list[tuple[str, object]]]", listed)() if callable(listed) else []
    names: dict[int, str] = {}
    for path, one in found:
        name = path.removesuffix(".predict")
        names[id(one)] = name_of(module) if name in ("self", "predict") else name
    return names


def task_of(inputs: Mapping[str, object]) -> object:
    """Read the arguments of a module as a task."""
    named, listed = mapping(inputs.get("kwargs")), inputs.get("args")
    if listed:
        return [*listed, *([dict(named)] if named else [])] if isinstance(listed, tuple) else inputs
    return dict(named)


def delivery_of(outputs: object) -> object:
    """Read what a module returns: the fields of a prediction, or the value itself."""
    read = getattr(outputs, "toDict", None)
    return read() if callable(read) else outputs


def tool_message(value: object, call_id: str) -> Content:
    """Make the message that a model gets from a tool."""
    return Content("tool", Content.of("tool", str(value)).parts, call_id=call_id)
