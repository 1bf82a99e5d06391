"""lllm: event-sourced logging for LLM agents.

Every LLM call, tool interrupt, retry and failure of a tactic is an append-only event, written the
moment it happens; lists, tags and costs are projections, built from the events. The names below are
the public API; each is imported when it is first used, so that `import lllm` costs next to nothing.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

from lllm.version import __version__

try:
    import fcntl  # noqa: F401 - locks need it, and every store needs locks
except ImportError:
    raise ImportError(
        "lllm runs on Linux and macOS, and not on this system, which has no flock to lock files "
        "with. On Windows, use it in WSL."
    ) from None

if TYPE_CHECKING:
    from lllm.agents.agent import Agent
    from lllm.agents.dialog import Dialog, Message, Piece
    from lllm.agents.prompt import Prompt
    from lllm.agents.tactic import Tactic, build_tactic
    from lllm.events.backends.jsonl.backend import LocalFileBackend
    from lllm.events.backends.noop import NoOpBackend
    from lllm.events.backends.sqlite.backend import SQLiteBackend
    from lllm.events.errors import (
        AgentError,
        AmbiguousId,
        AppendConflict,
        AppendTooLarge,
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
    from lllm.events.redaction.patterns import BEARER, CARD, EMAIL, Pattern
    from lllm.events.redaction.redact import redacted_in
    from lllm.instrumentation.capture import capture, captured, release
    from lllm.instrumentation.instruments import instrument, uninstrument
    from lllm.packages.loader import load_package
    from lllm.packages.registry import Runtime
    from lllm.projections.session.call_session import AgentCallSession, TacticCallSession
    from lllm.projections.session.invoke_cost import InvokeCost
    from lllm.sessions.threads import Executor
    from lllm.store.call_records import CallRecord
    from lllm.store.log_store import LogStore
    from lllm.store.summaries import SessionRecord, SessionSummary
    from lllm.tools.tool import tool

_HOMES = {
    "lllm.agents.agent": ("Agent",),
    "lllm.store.call_records": ("CallRecord",),
    "lllm.instrumentation.capture": ("capture", "captured", "release"),
    "lllm.agents.dialog": ("Dialog", "Message", "Piece"),
    "lllm.events.errors": (
        "AgentError",
        "AmbiguousId",
        "AppendConflict",
        "AppendTooLarge",
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
    "lllm.events.backends.jsonl.backend": ("LocalFileBackend",),
    "lllm.events.backends.noop": ("NoOpBackend",),
    "lllm.events.redaction.redact": ("redacted_in",),
    "lllm.events.redaction.patterns": ("BEARER", "CARD", "EMAIL", "Pattern"),
    "lllm.events.backends.sqlite.backend": ("SQLiteBackend",),
    "lllm.instrumentation.instruments": ("instrument", "uninstrument"),
    "lllm.packages.loader": ("load_package",),
    "lllm.projections.session.call_session": ("AgentCallSession", "TacticCallSession"),
    "lllm.projections.session.invoke_cost": ("InvokeCost",),
    "lllm.agents.prompt": ("Prompt",),
    "lllm.packages.registry": ("Runtime",),
    "lllm.store.log_store": ("LogStore",),
    "lllm.store.summaries": ("SessionRecord", "SessionSummary"),
    "lllm.agents.tactic": ("Tactic", "build_tactic"),
    "lllm.sessions.threads": ("Executor",),
    "lllm.tools.tool": ("tool",),
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
    "AppendTooLarge",
    "BudgetExceeded",
    "CallRecord",
    "ConfigError",
    "Dialog",
    "Executor",
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
    "captured",
    "instrument",
    "load_package",
    "redacted_in",
    "release",
    "tool",
    "uninstrument",
]


def _clone() -> str | None:
    """The top folder of the clone that this file is part of, None where it was installed.

    A clone has lllm.events and lllm.projections beside this package, an installation inside of it.
    Beside an installed package may stand anybody's folder named events, so the clone must say in
    its pyproject.toml that these are lllm's.
    """
    package = os.path.dirname(os.path.realpath(__file__))
    top = os.path.dirname(package)
    if os.path.isdir(os.path.join(package, "events")):
        return None
    if not all(os.path.isdir(os.path.join(top, name)) for name in ("events", "projections")):
        return None
    try:
        with open(os.path.join(top, "pyproject.toml"), "rb") as file:
            return top if b'"lllm.events" = "events"' in file.read() else None
    except OSError:
        return None


# Whenever the clone's folder is the current one, Python finds the package there, in front of an
# installed one. Under another name (lllm.lllm is there, too) it would find itself without end.
if __name__ == "lllm" and (_top := _clone()) is not None and _top not in __path__:
    __path__.append(_top)


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'lllm' has no attribute {name!r}")
    from lllm.events.concurrency.imports import importing

    with importing():
        value: object = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
