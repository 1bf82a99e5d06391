"""Makes events from one sample of a log of Inspect: its model calls and tools.

The types are in its source: https://github.com/UKGovernmentBEIS/inspect_ai (event/_model.py,
event/_tool.py, log/_log.py). Messages are stored once for a sample, and calls refer to them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lllm.events.model import Content, Error, Part, ToolCall, Usage
from lllm.importing.otlp.provider_names import provider_name
from lllm.importing.transcripts.call_owners import CallOwners
from lllm.importing.transcripts.session_events import CallSite, RequestFacts, SessionEvents
from lllm.importing.transcripts.transcript_json import number_in, time_of
from lllm.invokers import Answer, Finish
from lllm.invokers.dialects.provider_json import arguments_text, items, mapping, text

NAME = "inspect"
_APIS = {"anthropic": "messages", "openai": "responses", "google": "generate_content"}
_FINISH: dict[object, Finish] = {
    "stop": "stop", "tool_calls": "tool_calls", "max_tokens": "length", "model_length": "length",
    "content_filter": "content_filter",
}  # fmt: skip
_ATTACHMENT = "attachment://"


class EvalFacts(NamedTuple):
    """What a log says about its evaluation.

    Attributes:
        id: The id of the evaluation.
        task: The name of the task.
        model: The model that is evaluated, as "openai/gpt-5".
        tags: The tags that the user gave it.
    """

    id: str
    task: str
    model: str
    tags: tuple[str, ...]


def eval_of(header: Mapping[str, object]) -> EvalFacts | None:
    """Read the head of a log; None if it is not one of Inspect."""
    about = mapping(header.get("eval"))
    task, model = text(about.get("task")), text(about.get("model"))
    if not task or model is None:
        return None
    tags = items(about.get("tags")) or items(header.get("tags"))
    name = text(about.get("eval_id")) or text(about.get("run_id")) or ""
    return EvalFacts(name, task, model, tuple(one for one in tags if isinstance(one, str)))


class _Dialog:
    """A conversation: its number, and its messages with their numbers."""

    def __init__(self, number: int, order: list[tuple[str, int]]) -> None:
        self.number = number
        self.order = order

    @property
    def end(self) -> int:
        return self.order[-1][1] if self.order else 0

    def shared(self, keys: Sequence[str]) -> int:
        """Count the messages at the beginning that are the same."""
        pairs = zip(self.order, keys, strict=False)
        return next((at for at, (own, key) in enumerate(pairs) if own[0] != key),
                    min(len(self.order), len(keys)))  # fmt: skip


class InspectSample:
    """Makes the events of one sample, which is complete.

    Args:
        events: Where the events go.
        owners: Knows the calls that other sessions have.
        facts: What the log says about the evaluation.
        sample: The sample.
        began: When it began, nanoseconds UTC.
    """

    def __init__(
        self,
        events: SessionEvents,
        owners: CallOwners,
        facts: EvalFacts,
        sample: Mapping[str, object],
        began: int,
    ) -> None:
        self._events = events
        self._owners = owners
        self._facts = facts
        self._attachments = mapping(sample.get("attachments"))
        self._sample = sample
        self._pool = items(mapping(sample.get("events_data")).get("messages"))
        self._dialogs: list[_Dialog] = []
        self._asked: dict[str, tuple[int, _Dialog]] = {}  # by call id: the request, and its dialog
        self._open: dict[str, ToolCall] = {}
        self.last_time = began

    def write(self) -> None:
        """Write all events of the sample."""
        sample = self._sample
        given = sample.get("input")
        last = mapping(items(given)[-1]) if items(given) else {}
        task = text(given) or "".join(one.text or "" for one in self._parts(last.get("content")))
        tags = {
            "source": NAME, "model": self._facts.model, "sample": str(sample.get("id")),
            "epoch": str(sample.get("epoch")),
        }  # fmt: skip
        tags |= {"eval": ",".join(self._facts.tags)} if self._facts.tags else {}
        kept = ("target", "choices", "metadata", "limit", "error_retries")
        metadata = {"eval_id": self._facts.id} | {
            name: sample[name] for name in kept if sample.get(name) not in (None, [], {}, "")
        }
        self._events.start(self.last_time, task=self._resolved(task), tags=tags, metadata=metadata)
        for one in map(mapping, items(sample.get("events"))):
            if one.get("event") == "model" and not one.get("pending"):
                self._model(one)
            elif one.get("event") == "tool":
                self._tool(one)
        failure = mapping(sample.get("error"))
        error = None
        if failure:
            why = text(failure.get("message")) or "The log does not say why."
            error = Error("SampleError", why, traceback=text(failure.get("traceback")))
        ended = time_of(sample.get("completed_at")) or self.last_time
        said = text(mapping(sample.get("output")).get("completion"))
        self._events.end(max(ended, self.last_time), delivery=said, error=error)

    # -- calls of models

    def _model(self, event: Mapping[str, object]) -> None:
        began = time_of(event.get("timestamp")) or self.last_time
        ended = max(began, time_of(event.get("completed")) or began)
        self.last_time = max(self.last_time, ended)
        dialog = self._dialog_with(began, self._input(event))
        site, asked = _site(text(event.get("model")) or self._facts.model)
        params = {k: v for k, v in mapping(event.get("config")).items() if v is not None}
        if number_in(event.get("retries")):
            params["retries"] = event["retries"]
        output = mapping(event.get("output"))
        choices = [mapping(one) for one in items(output.get("choices"))]
        facts = RequestFacts(params=params or None, asked=asked)
        if event.get("error") or not choices:
            why = text(event.get("error")) or text(output.get("error")) or "There was no answer."
            self._events.add_failed_call(
                began, ended, site, Error("ModelError", why), model=asked,
                dialog=dialog.number, upto=dialog.end, facts=facts,
            )  # fmt: skip
            return
        answer = self._answer(output, choices, asked)
        own = self._events.source.session_id
        is_elsewhere = bool(answer.response_id) and self._owners.is_elsewhere_at(
            answer.response_id or "", own, began=began, ended=ended
        )
        if event.get("cache") == "read" or is_elsewhere:  # the answer was kept from another call
            number = self._events.add_message(ended, dialog.number, answer.content, was_paid=True)
        else:
            number = self._events.add_call(
                began, ended, site, answer,
                dialog=dialog.number, upto=dialog.end, facts=facts, with_tools=False,
            )  # fmt: skip
            request = self._events.last_request
            self._asked |= {one.id: (request, dialog) for one in answer.content.tool_calls}
        dialog.order.append((_key(mapping(choices[0].get("message"))), number))

    def _input(self, event: Mapping[str, object]) -> list[Mapping[str, object]]:
        refs = event.get("input_refs")
        if not isinstance(refs, list):
            return [mapping(one) for one in items(event.get("input"))]
        found: list[Mapping[str, object]] = []
        for start, end in (one for one in refs if isinstance(one, list) and len(one) == 2):
            found += [mapping(one) for one in self._pool[number_in(start) : number_in(end)]]
        return found

    def _dialog_with(self, time: int, messages: Sequence[Mapping[str, object]]) -> _Dialog:
        """Find the conversation that a call continues, or open one, and add what is new in it."""
        keys = [_key(one) for one in messages]
        best = max(self._dialogs, key=lambda one: one.shared(keys), default=None)
        shared = 0 if best is None else best.shared(keys)
        if best is None or shared < len(best.order):
            parent = best if best is not None and shared else None
            order = [] if parent is None else parent.order[:shared]
            number = self._events.open_dialog(
                time,
                "from an earlier message" if parent else "conversation",
                parent=None if parent is None else parent.number,
                upto=order[-1][1] if order else None,
            )
            best = _Dialog(number, order)
            self._dialogs.append(best)
        for key, one in zip(keys[shared:], messages[shared:], strict=True):
            content = self._content(one)
            was_paid = content.role in ("assistant", "tool")
            added = self._events.add_message(time, best.number, content, was_paid=was_paid)
            best.order.append((key, added))
        return best

    def _answer(
        self, output: Mapping[str, object], choices: Sequence[Mapping[str, object]], asked: str
    ) -> Answer:
        content = self._content(mapping(choices[0].get("message")))
        others = tuple(Part("choice", data=dict(one)) for one in choices[1:])
        reason = choices[0].get("stop_reason")
        raw = mapping(output.get("usage"))
        usage = _usage(raw)
        return Answer(
            content=Content("assistant", (*content.parts, *others), content.tool_calls),
            finish=_FINISH.get(reason, "other"),
            finish_raw=text(reason),
            model=text(output.get("model")) or asked,
            response_id=text(output.get("response_id")),
            usage_raw=None if usage is None else _raw(usage, raw.get("total_cost")),
            usage=usage,
        )

    # -- messages and tools

    def _content(self, message: Mapping[str, object]) -> Content:
        calls = [mapping(one) for one in items(message.get("tool_calls"))]
        parts = self._parts(message.get("content"))
        wrong = mapping(message.get("error"))
        if wrong and not parts:
            parts = (Part("text", text(wrong.get("message")) or ""),)
        return Content(
            text(message.get("role")) or "user",
            parts,
            tuple(
                ToolCall(
                    text(one.get("id")) or "", text(one.get("function")) or "",
                    arguments_text(one.get("arguments")),
                )
                for one in calls
            ),
            call_id=text(message.get("tool_call_id")),
        )  # fmt: skip

    def _parts(self, content: object) -> tuple[Part, ...]:
        if isinstance(content, str):
            return (Part("text", self._resolved(content)),) if content else ()
        found: list[Part] = []
        for one in map(mapping, items(content)):
            kind = text(one.get("type")) or "other"
            if kind == "text":
                found.append(Part("text", self._resolved(text(one.get("text")) or "")))
            elif kind == "reasoning":
                said = text(one.get("summary")) or text(one.get("reasoning")) or ""
                found.append(Part("reasoning", self._resolved(said)))
            else:
                data = {
                    key: self._resolved(value) if isinstance(value, str) else value
                    for key, value in one.items()
                }
                found.append(Part("file" if kind == "document" else kind, data=data))
        return tuple(found)

    def _resolved(self, said: str) -> str:
        """Replace a reference to an attachment by what it refers to."""
        if not said.startswith(_ATTACHMENT):
            return said
        return text(self._attachments.get(said.removeprefix(_ATTACHMENT))) or said

    def _tool(self, event: Mapping[str, object]) -> None:
        name = text(event.get("id")) or ""
        request, dialog = self._asked.get(name, (0, None))
        if dialog is None:
            return  # its call is in another session, as that of a copied answer
        began = time_of(event.get("timestamp")) or self.last_time
        ended = max(began, time_of(event.get("completed")) or began)
        self.last_time = max(self.last_time, ended)
        call = ToolCall(
            name, text(event.get("function")) or "", arguments_text(event.get("arguments"))
        )
        self._events.call_tool(began, call, event.get("arguments"), request=request)
        wrong = mapping(event.get("error"))
        result = event.get("result")
        parts = self._parts(result if isinstance(result, str | list) else json.dumps(result))
        if wrong:
            parts = (Part("text", text(wrong.get("message")) or "It failed."),)
        content = Content("tool", parts, call_id=name)
        number = self._events.add_result(ended, dialog.number, content, is_error=bool(wrong))
        dialog.order.append((f"tool:{name}", number))


def _key(message: Mapping[str, object]) -> str:
    """Name a message; that of a tool is named by its call, since its result came before."""
    if message.get("role") == "tool":
        return f"tool:{message.get('tool_call_id')}"
    return text(message.get("id")) or json.dumps([message.get("role"), message.get("content")])


def _site(model: str) -> tuple[CallSite, str]:
    """Find who is called from the name of a model, as "openai/gpt-5"."""
    first, _, rest = model.partition("/")
    provider = provider_name(first, None, None) if rest else ""
    return CallSite(provider, _APIS.get(provider, "chat.completions")), rest or model


def _usage(raw: Mapping[str, object]) -> Usage | None:
    """Read a usage, whose input excludes what the cache has; None if it is unknown."""
    given, output = number_in(raw.get("input_tokens")), number_in(raw.get("output_tokens"))
    read = number_in(raw.get("input_tokens_cache_read"))
    written = number_in(raw.get("input_tokens_cache_write"))
    reasoning = number_in(raw.get("reasoning_tokens"))
    if not any((given, output, read, written)):
        return None
    return Usage(
        input=given + read + written, output=output, cache_read=read, cache_write_5m=written,
        reasoning=reasoning,
    )  # fmt: skip


def _raw(usage: Usage, cost: object) -> dict[str, object]:
    """Write a usage in OpenAI's form, with the dollars that Inspect estimated, if it did."""
    cached = {"cached_tokens": usage.cache_read, "cache_write_tokens": usage.cache_write_5m}
    raw: dict[str, object] = {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "prompt_tokens_details": cached,
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    }
    return raw if cost is None else raw | {"cost": cost}
