"""lllm: event-sourced logging for LLM agents.

Every LLM call, tool interrupt, retry and failure of a tactic is an append-only event, written the
moment it happens. Lists, tags and costs are projections that are built from the events. The names
below are the public API; each is imported when it is first used, so `import lllm` is fast.

Each name is listed twice: once for type checkers, which treat names imported with `as` as public,
and once for the interpreter.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

from lllm.version import __version__ as __version__

try:
    import fcntl  # noqa: F401 - locks need it, and every store needs locks
except ImportError:
    raise ImportError(
        "lllm runs on Linux and macOS, and not on this system, which has no flock to lock files "
        "with. On Windows, use it in WSL."
    ) from None

if TYPE_CHECKING:
    from lllm.agents.agent import Agent as Agent
    from lllm.agents.answer_stream import Piece as Piece
    from lllm.agents.dialog import Dialog as Dialog
    from lllm.agents.dialog import Message as Message
    from lllm.agents.fork_edits import Edit as Edit
    from lllm.agents.prompt import Prompt as Prompt
    from lllm.agents.tactic import Tactic as Tactic
    from lllm.agents.tactic import build_tactic as build_tactic
    from lllm.events.backends.jetstream.backend import JetStreamBackend as JetStreamBackend
    from lllm.events.backends.jsonl.backend import LocalFileBackend as LocalFileBackend
    from lllm.events.backends.noop import NoOpBackend as NoOpBackend
    from lllm.events.backends.postgres.backend import PostgresBackend as PostgresBackend
    from lllm.events.backends.sqlite.backend import SQLiteBackend as SQLiteBackend
    from lllm.events.errors import AgentError as AgentError
    from lllm.events.errors import AmbiguousId as AmbiguousId
    from lllm.events.errors import AppendConflict as AppendConflict
    from lllm.events.errors import AppendTooLarge as AppendTooLarge
    from lllm.events.errors import ArchiveRefused as ArchiveRefused
    from lllm.events.errors import AuditError as AuditError
    from lllm.events.errors import BudgetExceeded as BudgetExceeded
    from lllm.events.errors import ConfigError as ConfigError
    from lllm.events.errors import ErasureRefused as ErasureRefused
    from lllm.events.errors import ImportRefused as ImportRefused
    from lllm.events.errors import InvokeError as InvokeError
    from lllm.events.errors import LllmError as LllmError
    from lllm.events.errors import LogDamaged as LogDamaged
    from lllm.events.errors import LogError as LogError
    from lllm.events.errors import LogReadOnly as LogReadOnly
    from lllm.events.errors import LogTooNew as LogTooNew
    from lllm.events.errors import LogUnavailable as LogUnavailable
    from lllm.events.errors import MissingExtra as MissingExtra
    from lllm.events.errors import PackageError as PackageError
    from lllm.events.errors import ParseError as ParseError
    from lllm.events.errors import PromptError as PromptError
    from lllm.events.errors import ReplayError as ReplayError
    from lllm.events.errors import SealRefused as SealRefused
    from lllm.events.errors import SearchQueryError as SearchQueryError
    from lllm.events.errors import SearchUnavailable as SearchUnavailable
    from lllm.events.errors import SessionEnded as SessionEnded
    from lllm.events.errors import SessionNotFound as SessionNotFound
    from lllm.events.errors import SessionWasArchived as SessionWasArchived
    from lllm.events.errors import SessionWasErased as SessionWasErased
    from lllm.events.errors import SignatureInvalid as SignatureInvalid
    from lllm.events.errors import StoreError as StoreError
    from lllm.events.errors import ViewError as ViewError
    from lllm.events.errors import WrongProcess as WrongProcess
    from lllm.events.redaction.redact import redacted_in as redacted_in
    from lllm.events.redaction.user_patterns import BEARER as BEARER
    from lllm.events.redaction.user_patterns import CARD as CARD
    from lllm.events.redaction.user_patterns import EMAIL as EMAIL
    from lllm.events.redaction.user_patterns import Pattern as Pattern
    from lllm.instrumentation.capture import capture as capture
    from lllm.instrumentation.capture import captured as captured
    from lllm.instrumentation.capture import release as release
    from lllm.instrumentation.instruments import instrument as instrument
    from lllm.instrumentation.instruments import uninstrument as uninstrument
    from lllm.packages.loader import load_package as load_package
    from lllm.packages.registry import Runtime as Runtime
    from lllm.projections.session.call_session import AgentCallSession as AgentCallSession
    from lllm.projections.session.call_session import TacticCallSession as TacticCallSession
    from lllm.projections.session.invoke_cost import InvokeCost as InvokeCost
    from lllm.replay.divergence import ReplayDivergence as ReplayDivergence
    from lllm.replay.divergence import ReplayInterrupted as ReplayInterrupted
    from lllm.replay.divergence import ReplayPlace as ReplayPlace
    from lllm.replay.fork import Fork as Fork
    from lllm.replay.replay import Replay as Replay
    from lllm.search.hits import SearchHit as SearchHit
    from lllm.search.hits import SearchHits as SearchHits
    from lllm.sessions.drawn_values import now as now
    from lllm.sessions.drawn_values import random as random
    from lllm.sessions.drawn_values import uuid4 as uuid4
    from lllm.sessions.threads import Executor as Executor
    from lllm.store.call_records import CallRecord as CallRecord
    from lllm.store.log_store import LogStore as LogStore
    from lllm.store.summaries import SessionRecord as SessionRecord
    from lllm.store.summaries import SessionSummary as SessionSummary
    from lllm.tools.tool import tool as tool

# Where each name is found when it is first used; `import lllm` imports none of it.
_NAMES_IN = {
    "lllm.agents.agent": "Agent",
    "lllm.agents.answer_stream": "Piece",
    "lllm.agents.dialog": "Dialog Message",
    "lllm.agents.fork_edits": "Edit",
    "lllm.agents.prompt": "Prompt",
    "lllm.agents.tactic": "Tactic build_tactic",
    "lllm.events.backends.jsonl.backend": "LocalFileBackend",
    "lllm.events.backends.noop": "NoOpBackend",
    "lllm.events.backends.jetstream.backend": "JetStreamBackend",
    "lllm.events.backends.postgres.backend": "PostgresBackend",
    "lllm.events.backends.sqlite.backend": "SQLiteBackend",
    "lllm.events.errors": (
        "AgentError AmbiguousId AppendConflict AppendTooLarge ArchiveRefused AuditError "
        "BudgetExceeded ConfigError ErasureRefused ImportRefused InvokeError LllmError LogDamaged "
        "LogError LogReadOnly LogTooNew LogUnavailable MissingExtra PackageError ParseError "
        "PromptError ReplayError SealRefused SearchQueryError SearchUnavailable SessionEnded "
        "SessionNotFound SessionWasArchived SessionWasErased SignatureInvalid StoreError "
        "ViewError WrongProcess"
    ),
    "lllm.events.redaction.user_patterns": "BEARER CARD EMAIL Pattern",
    "lllm.events.redaction.redact": "redacted_in",
    "lllm.instrumentation.capture": "capture captured release",
    "lllm.instrumentation.instruments": "instrument uninstrument",
    "lllm.packages.loader": "load_package",
    "lllm.packages.registry": "Runtime",
    "lllm.projections.session.call_session": "AgentCallSession TacticCallSession",
    "lllm.projections.session.invoke_cost": "InvokeCost",
    "lllm.replay.divergence": "ReplayDivergence ReplayInterrupted ReplayPlace",
    "lllm.replay.fork": "Fork",
    "lllm.replay.replay": "Replay",
    "lllm.search.hits": "SearchHit SearchHits",
    "lllm.sessions.drawn_values": "now random uuid4",
    "lllm.sessions.threads": "Executor",
    "lllm.store.call_records": "CallRecord",
    "lllm.store.log_store": "LogStore",
    "lllm.store.summaries": "SessionRecord SessionSummary",
    "lllm.tools.tool": "tool",
}
_MODULE_OF = {name: module for module, names in _NAMES_IN.items() for name in names.split()}

if not TYPE_CHECKING:  # type checkers go by the names that are imported `as` themselves
    __all__ = sorted([*_MODULE_OF, "__version__"])


def _clone() -> str | None:
    """Get the top folder of the repository clone with this file; None if lllm is installed.

    In a clone, lllm.events and lllm.projections are beside this package; in an installation, they
    are inside it. An unrelated folder named events may be beside an installed package, so the
    clone's pyproject.toml must name these packages as lllm's.
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


# If the clone's folder is the current one, Python finds the package there before an installed one.
# As lllm.lllm it would find itself again and again.
if __name__ == "lllm" and (_top := _clone()) is not None and _top not in __path__:
    __path__.append(_top)


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'lllm' has no attribute {name!r}")
    from lllm.events.concurrency.late_imports import importing

    with importing():
        value: object = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*_MODULE_OF, "__version__"])
