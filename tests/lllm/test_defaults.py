"""What goes where nothing is said: the defaults of the public functions, which are a promise."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import pytest

import lllm
from lllm import CallRecord
from lllm.agents.config import AgentConfig, read_config
from lllm.events.values.from_marks import from_plain
from lllm.events.values.json_values import to_plain
from lllm.events.values.readable import readable
from lllm.invokers.anthropic import AnthropicInvoker
from lllm.invokers.http.retry_after import _seconds
from lllm.invokers.litellm import LiteLLMInvoker
from lllm.invokers.openai import OpenAIInvoker
from lllm.invokers.scripted import ScriptedInvoker

# Those that are a bool, a number or a text; all others are None, or empty.
SAID = {
    "Agent.open": {"alias": "main"},
    "LocalFileBackend": {"durability": "process", "segment_bytes": 64 << 20, "read_only": False},
    "LocalFileBackend.read": {"after": 0},
    "LocalFileBackend.read_types": {"after": 0},
    "LogStore": {"partition": "", "on_error": "hold"},
    "LogStore.open": {"make": True, "partition": "", "on_error": "hold"},
    "LogStore.delete_session": {"keep_derived": False, "defer_vacuum": False},
    "LogStore.erase": {"keep_derived": False, "defer_vacuum": False},
    "LogStore.erase_session": {"keep_derived": False, "defer_vacuum": False},
    "LogStore.prove": {"redacted": False, "children": False, "related": False},
    "LogStore.retain": {"dry_run": True, "defer_vacuum": False},
    "LogStore.search": {"replays": False, "sort": "newest", "limit": 20},
    "LogStore.export_cost_summary": {"wasted": False, "prices": "recorded"},
    "LogStore.export_dataset": {"wasted": False},
    "LogStore.export_session": {"format": "json"},
    "LogStore.follow": {"poll": 0.1},
    "LogStore.list_calls": {"sort": "started"},
    "LogStore.archive": {"dry_run": False, "defer_vacuum": False},
    "LogStore.list_sessions": {
        "sort": "started",
        "reverse": False,
        "replays": False,
        "wasted": False,
    },
    "LogStore.rebuild": {"check": False},
    "LogStore.fork": {"on_divergence": "raise"},
    "LogStore.seal": {"optional_anchors": False},
    "LogStore.replay": {"on_divergence": "raise", "record": True},
    "LogStore.session": {"budget_unpriced": "warn"},
    "LogStore.tactic": {"budget_unpriced": "warn"},
    "NoOpBackend.read": {"after": 0},
    "Pattern": {"needs": ""},
    "Pattern.cut": {"behind": 0},
    "JetStreamBackend": {"timeout": 10.0, "read_only": False},
    "JetStreamBackend.read": {"after": 0},
    "JetStreamBackend.read_digests": {"after": 0},
    "PostgresBackend": {"timeout": 10.0, "read_only": False},
    "PostgresBackend.read": {"after": 0},
    "PostgresBackend.read_digests": {"after": 0},
    "PostgresBackend.read_with_digests": {"after": 0},
    "PostgresBackend.read_types": {"after": 0},
    "PostgresBackend.archived_leaves": {"after": 0},
    "SQLiteBackend.archived_leaves": {"after": 0},
    "SQLiteBackend": {"durability": "process", "read_only": False},
    "SQLiteBackend.read": {"after": 0},
    "SQLiteBackend.read_types": {"after": 0},
    "SQLiteBackend.read_digests": {"after": 0},
    "SearchHits": {"examined": 0},
    "Tactic": {"budget_unpriced": "warn"},
    "Tactic.acall": {"return_session": False},
    "Tactic.bcall": {"fail_fast": True, "return_session": False, "return_sessions": False},
    "Tactic.ccall": {"fail_fast": True, "return_session": False},
    "Tactic.quick": {"system_prompt": ""},
    "Tactic.afork": {"on_divergence": "raise", "return_session": False},
    "Tactic.fork": {"on_divergence": "raise", "return_session": False},
    "Tactic.replay": {"return_session": False, "on_divergence": "raise", "record": True},
    "capture": {"ask_for_usage": False},
    "captured": {"ask_for_usage": False},
    "tool": {"repeat": False, "replay": "log"},
}
# What is made by lllm alone, or is Python's own.
OTHERS = {
    "AgentCallSession", "TacticCallSession", "InvokeCost", "InvokeError", "LogDamaged", "Executor",
    "Fork", "ImportRefused", "Replay", "ReplayDivergence",
}  # fmt: skip


def public() -> Iterator[tuple[str, object]]:
    """The functions and classes of lllm's own names, and the methods of these classes."""
    for name in set(lllm.__all__) - OTHERS:
        found = getattr(lllm, name)
        yield name, found
        members = inspect.getmembers_static(found) if inspect.isclass(found) else ()
        for method, value in members:
            function = getattr(value, "__func__", value)
            if not method.startswith("_") and inspect.isfunction(function):
                yield f"{name}.{method}", function


def test_the_defaults_of_the_public_functions() -> None:
    """Each is what it was: a change is told in the change log, and here."""
    found = {}
    for name, one in public():
        if callable(one):
            try:
                parameters = inspect.signature(one).parameters.values()
            except (TypeError, ValueError):
                continue
            said = {
                p.name: p.default for p in parameters if isinstance(p.default, int | float | str)
            }
            if said:
                found[name] = said
    assert found == SAID


def test_the_defaults_of_an_agent() -> None:
    """An agent that says only its name and its model, made either way."""
    given = {"agent_configs": [{"name": "x", "model_name": "m", "invoker": ScriptedInvoker([])}]}
    read = read_config(given, (), "tactic 't'")["x"]
    made = AgentConfig(
        name="x", model_name="m", system_prompt=read.system_prompt, invoker=read.invoker,
        provider="p", model_args={}, tools=(),
    )  # fmt: skip
    for agent in (read, made):
        assert (agent.max_exception_retry, agent.max_llm_recall) == (3, 3)
        assert (agent.max_interrupt_steps, agent.max_parallel_tools) == (10, 1)
        assert (agent.recall_wait, agent.max_retry_wait) == (1.0, 60.0)


@pytest.mark.parametrize(
    ("invoker", "seconds"), [(OpenAIInvoker, 60), (AnthropicInvoker, 600), (LiteLLMInvoker, 60)]
)
def test_how_long_an_invoker_waits(invoker: type, seconds: float) -> None:
    """The seconds that a request may take."""
    assert inspect.signature(invoker).parameters["timeout"].default == seconds


def test_what_a_reader_gets_of_ranges_and_long_numbers() -> None:
    """A range is written out up to a thousand numbers, and a number as Python writes numbers."""
    for numbers in (range(1_000), range(0, 2_000, 2), range(0, -1_000, -1)):
        assert readable(to_plain(numbers)) == list(numbers)
    assert readable(to_plain(range(1_001))) == "range(0, 1001, 1)"
    assert readable(to_plain(range(10, 3_000, 2))) == "range(10, 3000, 2)"
    assert readable(to_plain(2**64)) == str(2**64)
    short, long = 16**3_190, 16**3_200
    assert readable(to_plain(short)) == str(short)
    assert readable(to_plain(long)) == hex(long)
    assert from_plain(to_plain(long)) == long


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1h", 3600), ("2m3.5s", 123.5), ("7ms", 7e-3), ("8us", 8e-6), ("9ns", 9e-9), ("", None),
     ("5 min", None)],
)  # fmt: skip
def test_units_of_a_wait(text: str, seconds: float | None) -> None:
    """Each unit that Go prints."""
    assert _seconds(text) == (None if seconds is None else pytest.approx(seconds, rel=1e-12))


def test_a_record_of_a_call_is_made_by_names() -> None:
    """Its fields are many, and more may come between them."""
    with pytest.raises(TypeError, match="positional"):
        CallRecord("a session")  # type: ignore[misc, call-arg] # that it is refused is the test
