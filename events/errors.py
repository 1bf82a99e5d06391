"""Every error that lllm raises on purpose.

    LllmError
    ├── LogError                        the log of events
    │   ├── LogUnavailable   (OSError)      the log can't be opened or written now
    │   ├── LogDamaged                      stored events differ from what was written
    │   ├── LogTooNew                       a newer lllm wrote the log
    │   ├── LogReadOnly                     the log was opened for reading only
    │   ├── AppendConflict                  the stream has another event at this seq
    │   ├── AppendTooLarge                  an event or append exceeds the size limit
    │   ├── WrongProcess                    a recorder was used in a forked child
    │   └── SessionEnded                    a recorder was used after its session's last event
    ├── StoreError                      reading or importing sessions
    │   ├── SessionNotFound  (KeyError)     no session has this id
    │   ├── AmbiguousId      (KeyError)     several ids begin with the given prefix
    │   ├── SessionWasErased                the requested session was erased on purpose
    │   ├── SessionWasArchived              the requested session left the store for an archive
    │   ├── ErasureRefused                  a session can't be erased now: it runs, or is held
    │   ├── ArchiveRefused                  sessions can't be archived there, or not by this store
    │   ├── ImportRefused                   some sessions were not imported
    │   ├── ReplayError                     a session can't be replayed
    │   ├── SearchUnavailable               the store has no search index
    │   ├── SearchQueryError (ValueError)   a query of a search can't be read
    │   └── ViewError                       a view can't be built or read
    ├── ConfigError          (ValueError)   a tactic or agent is configured wrongly
    ├── PackageError         (ValueError)   an lllm.toml or a folder named there is wrong
    ├── PromptError          (ValueError)   a prompt and its arguments don't fit
    ├── ParseError           (ValueError)   an answer can't be parsed; raised by a user's parser
    ├── AuditError           (ValueError)   a key, a signed note or a checkpoint can't be used
    │   ├── SealRefused                     a witness cosigned what a new seal contradicts
    │   └── SignatureInvalid                a signature is wrong, or no trusted key made it
    ├── MissingExtra         (ImportError)  a library is not installed; the message names the extra
    ├── InvokeError                         one attempt to call a model failed
    ├── BudgetExceeded                      the budget of a call is spent
    └── AgentError                          an agent gave up; the last error is its cause

ReplayDivergence and ReplayInterrupted (`lllm.replay.divergence`) are not in this tree. They derive
from BaseException, so that an `except Exception` in a replayed program does not catch them.

Each message says what was wrong, where, and what to do about it. An error that Python programmers
would catch as a builtin exception also derives from that exception.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lllm.events.model import Content, Usage


class LllmError(Exception):
    """The base of all errors that lllm raises on purpose."""

    def __str__(self) -> str:
        # KeyError would show the repr of its argument; these messages are sentences.
        return str(self.args[0]) if self.args else type(self).__name__


class LogError(LllmError):
    """The log of events can't be used; the base of all errors of a log."""


class LogUnavailable(LogError, OSError):
    """The log can't be opened or written now; nothing of a failed append was stored."""


class LogDamaged(LogError):
    """Stored events differ from what was written, or are missing.

    Args:
        message: The text for users: what is damaged, where, and what to do.
        position: The position in the log of the damage; a read with `after=position` skips it.
        stream: The session or statement that the damaged event belongs to; "" if it is unknown.
        lost: The positions that such a read skips, as far as the log can tell; None for `position`
            alone.
    """

    def __init__(
        self, message: str, *, position: int, stream: str = "", lost: Sequence[int] | None = None
    ) -> None:
        super().__init__(message)
        self.position = position
        self.stream = stream
        self.lost: Sequence[int] = (position,) if lost is None else lost

    def __reduce__(self) -> tuple[Callable[..., LogDamaged], tuple[str, int, str, Sequence[int]]]:
        """Pickle the error by its fields, for worker processes."""
        return _damaged, (str(self), self.position, self.stream, self.lost)


class LogTooNew(LogError):
    """A newer version of lllm wrote this log; this version refuses to guess at its format."""


class LogReadOnly(LogError):
    """The log was opened for reading only, so nothing can be written to it."""


class AppendConflict(LogError):
    """The stream already has a different event at this place."""


class AppendTooLarge(LogError):
    """An event or an append exceeds the log's size limit; nothing of it was stored."""


class WrongProcess(LogError):
    """A forked child used a recorder of its parent; the child must start a session of its own."""


class SessionEnded(LogError):
    """The session has ended, so no more events can be added to it."""


class StoreError(LllmError):
    """A store can't do what it was asked to do; the base of errors of reading and importing."""


class SessionNotFound(StoreError, KeyError):
    """No session in this store has the given id."""


class AmbiguousId(StoreError, KeyError):
    """Several sessions have ids that begin with the given prefix."""


class SessionWasErased(StoreError):
    """The requested session was erased on purpose."""


class SessionWasArchived(StoreError):
    """The requested session left the store for an archive; the message names the file."""


class ArchiveRefused(StoreError):
    """Sessions can't be archived to this place, or from this store; nothing was changed."""


class ErasureRefused(StoreError):
    """A session can't be erased, or not now; nothing was erased."""


class ImportRefused(StoreError):
    """Some sessions were not imported; all others were.

    Attributes:
        refused: The sessions that were not imported, each with its place in the source and the
            reason.
        sessions: The number of sessions that were added.
        events: The number of events that were added.
        known: The number of sessions that the store already had.
    """

    def __init__(
        self,
        message: str,
        *,
        refused: tuple[str, ...] = (),
        sessions: int = 0,
        events: int = 0,
        known: int = 0,
    ) -> None:
        super().__init__(message)
        self.refused = refused
        self.sessions = sessions
        self.events = events
        self.known = known

    def __reduce__(self) -> tuple[Callable[..., ImportRefused], tuple[object, ...]]:
        """Pickle the error by its fields, for worker processes."""
        fields = (str(self), self.refused, self.sessions, self.events, self.known)
        return _import_refused, fields


class ReplayError(StoreError):
    """A session can't be replayed: it is damaged, incomplete, too new, or of another tactic."""


class SearchUnavailable(StoreError):
    """The store has no search index, or Python's SQLite lacks full-text search."""


class SearchQueryError(StoreError, ValueError):
    """The query of a search is invalid; the message says what is wrong, and where."""


class ViewError(StoreError):
    """A view can't be built or read; the message says why."""


class ConfigError(LllmError, ValueError):
    """A tactic's or agent's configuration is wrong; the message names the key."""


class PackageError(LllmError, ValueError):
    """An lllm.toml, or a folder that it names, is missing or invalid."""


class PromptError(LllmError, ValueError):
    """The arguments given for a prompt don't match its placeholders."""


class ParseError(LllmError, ValueError):
    """An answer can't be parsed.

    Raise it in a `Prompt(parser=...)`: the model is told the message and asked again.
    """


class AuditError(LllmError, ValueError):
    """A key, a signed note or a checkpoint is invalid or can't be used."""


class SealRefused(AuditError):
    """A witness cosigned an earlier checkpoint of the log that a new one contradicts."""


class SignatureInvalid(AuditError):
    """A signature does not match the signed text, or no trusted key made it."""


class MissingExtra(LllmError, ImportError):
    """A model's SDK or a library is not installed, or its version is not supported.

    The message says what to install.
    """


class InvokeError(LllmError):
    """One attempt to call a model failed.

    Args:
        message: The text for users: what failed and what to do.
        retryable: True if the same call may succeed later (timeout, connection, 429, 5xx).
        status: The HTTP status code; None if no HTTP response came.
        code: The provider's error code, as sent; None if it sent none.
        retry_after: Nanoseconds to wait before the next attempt, as the provider asked; None if it
            did not.
        request_id: The provider's id of the HTTP request, which its support asks for.
        partial: The part of an answer that had arrived before it was cut off; None if none had.
        usage: The token counts that had arrived by then; None if none had.
        usage_raw: The same counts exactly as the provider sent them.
        billed: The cost that the provider stated, in nano-dollars; None if it stated none.
        service_tier: The service tier of the answer; None if it is unknown.
        model: The model that answered, by the provider's name for it; None if it is unknown.
        unserved: True if the provider certainly did nothing, so that the attempt cost nothing; some
            status codes say so, too.
        unfinished: True if an answer had begun and was cut off, so `usage` may be too low.
    """

    def __init__(
        self,
        message: str,
        *,
        retryable: bool,
        status: int | None = None,
        code: str | None = None,
        retry_after: int | None = None,
        request_id: str | None = None,
        partial: Content | None = None,
        usage: Usage | None = None,
        usage_raw: object = None,
        billed: int | None = None,
        service_tier: str | None = None,
        model: str | None = None,
        unserved: bool = False,
        unfinished: bool = False,
    ) -> None:
        super().__init__(message)
        self.retryable = retryable
        self.status = status
        self.code = code
        self.retry_after = retry_after
        self.request_id = request_id
        self.partial = partial
        self.usage = usage
        self.usage_raw = usage_raw
        self.billed = billed
        self.service_tier = service_tier
        self.model = model
        self.unserved = unserved
        self.unfinished = unfinished

    def __reduce__(self) -> tuple[Callable[..., InvokeError], tuple[str, dict[str, object]]]:
        """Pickle the error by its fields, for worker processes."""
        return _invoke_error, (str(self), vars(self))


def _damaged(message: str, position: int, stream: str, lost: Sequence[int]) -> LogDamaged:
    return LogDamaged(message, position=position, stream=stream, lost=lost)


def _import_refused(
    message: str, refused: tuple[str, ...], sessions: int, events: int, known: int
) -> ImportRefused:
    return ImportRefused(message, refused=refused, sessions=sessions, events=events, known=known)


def _invoke_error(message: str, fields: dict[str, object]) -> InvokeError:
    error = InvokeError(message, retryable=False)
    vars(error).update(fields)
    return error


class BudgetExceeded(LllmError):
    """The budget of a call is spent, so the next call of a model was not made.

    Args:
        message: The text for users: which budget is spent and what to do.
        spent_usd: US dollars that were spent.
        limit_usd: The budget, in US dollars.
    """

    def __init__(self, message: str, *, spent_usd: float, limit_usd: float) -> None:
        super().__init__(message)
        self.spent_usd = spent_usd
        self.limit_usd = limit_usd

    def __reduce__(self) -> tuple[Callable[..., BudgetExceeded], tuple[str, float, float]]:
        """Pickle the error by its fields, for worker processes."""
        return _budget_exceeded, (str(self), self.spent_usd, self.limit_usd)


def _budget_exceeded(message: str, spent_usd: float, limit_usd: float) -> BudgetExceeded:
    return BudgetExceeded(message, spent_usd=spent_usd, limit_usd=limit_usd)


class AgentError(LllmError):
    """An agent used up its retries; `__cause__` is the last error."""
