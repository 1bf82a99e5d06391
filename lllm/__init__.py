"""lllm: event-sourced logging for LLM agents.

Every LLM call, tool interrupt, retry and failure of a tactic is an append-only event, written the
moment it happens; lists, tags and costs are projections, built from the events. The names below are
the public API; each is imported when it is first used, so that `import lllm` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from lllm.version import __version__

if TYPE_CHECKING:
    from lllm.agent import Agent
    from lllm.capturing import capture
    from lllm.dialog import Dialog, Message, Piece
    from lllm.events.errors import (
        AgentError,
        AmbiguousId,
        AppendConflict,
        BudgetExceeded,
        ConfigError,
        InvokeError,
        LllmError,
        LogDamaged,
        LogError,
        LogReadOnly,
        LogTooNew,
        LogUnavailable,
        MissingExtra,
        PackageError,
        ParseError,
        PromptError,
        SessionEnded,
        SessionNotFound,
        StoreError,
        ViewError,
        WrongProcess,
    )
    from lllm.events.jsonl import LocalFileBackend
    from lllm.events.noop import NoOpBackend
    from lllm.events.redaction import redacted_in
    from lllm.events.secret_patterns import BEARER, CARD, EMAIL, Pattern
    from lllm.events.sqlite import SQLiteBackend
    from lllm.packages import load_package
    from lllm.projections.call_session import AgentCallSession, TacticCallSession
    from lllm.projections.invoke_cost import InvokeCost
    from lllm.prompt import Prompt
    from lllm.runtime import Runtime
    from lllm.store import LogStore
    from lllm.summaries import SessionRecord, SessionSummary
    from lllm.tactic import Tactic, build_tactic
    from lllm.tools import tool

_HOMES = {
    "lllm.agent": ("Agent",),
    "lllm.capturing": ("capture",),
    "lllm.dialog": ("Dialog", "Message", "Piece"),
    "lllm.events.errors": (
        "AgentError",
        "AmbiguousId",
        "AppendConflict",
        "BudgetExceeded",
        "ConfigError",
        "InvokeError",
        "LllmError",
        "LogDamaged",
        "LogError",
        "LogReadOnly",
        "LogTooNew",
        "LogUnavailable",
        "MissingExtra",
        "PackageError",
        "ParseError",
        "PromptError",
        "SessionEnded",
        "SessionNotFound",
        "StoreError",
        "ViewError",
        "WrongProcess",
    ),
    "lllm.events.jsonl": ("LocalFileBackend",),
    "lllm.events.noop": ("NoOpBackend",),
    "lllm.events.redaction": ("redacted_in",),
    "lllm.events.secret_patterns": ("BEARER", "CARD", "EMAIL", "Pattern"),
    "lllm.events.sqlite": ("SQLiteBackend",),
    "lllm.packages": ("load_package",),
    "lllm.projections.call_session": ("AgentCallSession", "TacticCallSession"),
    "lllm.projections.invoke_cost": ("InvokeCost",),
    "lllm.prompt": ("Prompt",),
    "lllm.runtime": ("Runtime",),
    "lllm.store": ("LogStore",),
    "lllm.summaries": ("SessionRecord", "SessionSummary"),
    "lllm.tactic": ("Tactic", "build_tactic"),
    "lllm.tools": ("tool",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "BEARER",
    "CARD",
    "EMAIL",
    "Agent",
    "AgentCallSession",
    "AgentError",
    "AmbiguousId",
    "AppendConflict",
    "BudgetExceeded",
    "ConfigError",
    "Dialog",
    "InvokeCost",
    "InvokeError",
    "LllmError",
    "LocalFileBackend",
    "LogDamaged",
    "LogError",
    "LogReadOnly",
    "LogStore",
    "LogTooNew",
    "LogUnavailable",
    "Message",
    "MissingExtra",
    "NoOpBackend",
    "PackageError",
    "ParseError",
    "Pattern",
    "Piece",
    "Prompt",
    "PromptError",
    "Runtime",
    "SQLiteBackend",
    "SessionEnded",
    "SessionNotFound",
    "SessionRecord",
    "SessionSummary",
    "StoreError",
    "Tactic",
    "TacticCallSession",
    "ViewError",
    "WrongProcess",
    "__version__",
    "build_tactic",
    "capture",
    "load_package",
    "redacted_in",
    "tool",
]


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'lllm' has no attribute {name!r}")
    try:
        from lllm.events.importing import importing
    except ModuleNotFoundError as error:
        if error.name != "lllm.events":
            raise
        raise ImportError(
            f"{__path__[0]} is a folder of lllm's sources, found in front of the installed lllm. "
            "Run your program in another folder, or install the clone with `pip install -e .`."
        ) from None
    with importing():
        value: object = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
