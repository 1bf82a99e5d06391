"""Record sessions, and write later statements about them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from lllm.events.ids import new_id, new_salt
from lllm.events.model import ErrorRecorded, SessionAnnotated, SessionTagged
from lllm.events.statements import append_statement
from lllm.events.values.json_values import to_plain
from lllm.sessions.budget import OnUnpriced, budget_of
from lllm.sessions.decorator import tactic_decorator
from lllm.sessions.error_details import describe
from lllm.sessions.new_session import open_session
from lllm.sessions.session import SessionScope
from lllm.sessions.session_start import check_tags
from lllm.store.erasure_report import refuse_gone
from lllm.store.methods.store_parts import StoreParts

if TYPE_CHECKING:
    from lllm.sessions.session_link import SessionLink

P = ParamSpec("P")
R = TypeVar("R")


class RecordsSessions(StoreParts):
    """Record sessions, and write later statements about them. See LogStore."""

    def session(
        self,
        name: str,
        *,
        tags: Mapping[str, str] | None = None,
        metadata: object = None,
        task: object = None,
        partition: str | None = None,
        budget_usd: float | None = None,
        budget_unpriced: OnUnpriced = "warn",
    ) -> SessionScope:
        """Record a block of code as a session, without writing a Tactic.

        Use it as `with store.session("my_project::script") as recorder:`, or with `async with`.
        Tactics called inside become its children.

        Args:
            name: The stable path of the session; the part after the last `::` is its short name.
            tags: Names and values (both str) by which the session can be found in lists.
            metadata: Any value to keep with the session.
            task: The input of the session. Record its result with `recorder.deliver(value)`.
            partition: The owner of the session; None for the store's partition.
            budget_usd: The most that all model calls inside the session may cost together, in US
                dollars; None for no limit.
            budget_unpriced: What to do under a budget when the cost of a call is unknown: "warn"
                once, or "stop" before the next call of a model.

        Returns:
            The session; it begins when the `with` block is entered.

        Raises:
            TypeError: Tags are not str -> str.
            ValueError: The name is empty.
            ConfigError: The budget is invalid.
        """
        return open_session(
            self._host, name, task=task, tags=tags, metadata=metadata, partition=partition,
            budget=budget_of(budget_usd, budget_unpriced),
        )  # fmt: skip

    def tactic(
        self,
        name: str,
        *,
        tags: Mapping[str, str] | None = None,
        metadata: object = None,
        partition: str | None = None,
        budget_usd: float | None = None,
        budget_unpriced: OnUnpriced = "warn",
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Record each call of a function as a session, with the decorator `@store.tactic("name")`.

        It works on a `def` and an `async def`. The first argument of a call is recorded as the
        task, and the return value as the delivery. A call made inside another session becomes a
        child of that session.

        It also works on sync and async generators, such as a streaming handler of a web server: the
        items are recorded as the delivery. The session is current only while the generator itself
        runs, in whichever thread or task that is. Items beyond 16 MiB in all are counted, but not
        recorded. A generator that is closed before its end is recorded as cancelled, with the items
        so far.

        Args:
            name: A stable path with `::`; or a short name, which is prefixed with the package that
                the nearest lllm.toml above the file names.
            tags: Names and values (both str) that every call gets.
            metadata: Any value to keep with every call.
            partition: The owner of the calls; None for the store's partition.
            budget_usd: The most that one call may cost, in US dollars; None for no limit.
            budget_unpriced: What to do under a budget when the cost of a model call is unknown:
                "warn" once, or "stop" before the next call of a model.

        Returns:
            The decorator.

        Raises:
            ConfigError: The name or the budget is invalid.
            PackageError: The lllm.toml has an error.
        """
        return tactic_decorator(
            self._host, name, tags=tags, metadata=metadata, partition=partition,
            budget_usd=budget_usd, budget_unpriced=budget_unpriced,
        )  # fmt: skip

    def carry(self, function: Callable[P, R]) -> Callable[P, R]:
        """Make a function run in the current session, whichever thread calls it.

        For example `pool.map(store.carry(work), items)`. Costs count towards the budget of the
        session.

        Args:
            function: A function or a coroutine function. It can be called any number of times, also
                in many threads at once.

        Returns:
            A function with the same name, arguments, result and errors. If no session is current
            when `carry` is called, the function runs outside of any session.
        """
        from lllm.sessions.threads import carry

        return carry(function)

    def link(self) -> SessionLink:
        """Link to the current session from other processes, also on other machines.

        Give the link to the other process (it can be pickled), and begin sessions there with
        `with link.session("my_project::part"):`. They are children of the current session.

        Returns:
            The link.

        Raises:
            ConfigError: No session of this store is current, or the store is in memory.
        """
        from lllm.sessions.session_link import link_of

        return link_of(self._host)

    def tag(
        self,
        session_id: str,
        tags: Mapping[str, str] | None = None,
        *,
        remove: Iterable[str] = (),
        by: str | None = None,
    ) -> None:
        """Add, change or remove tags of a session after it began.

        The recorded events of the session are not changed; the new tags are one more event.

        Args:
            session_id: The whole id.
            tags: Tags to add or change.
            remove: Names of tags to remove.
            by: The person or program that makes this change; it is recorded.

        Raises:
            TypeError: Tags are not str -> str.
            SessionNotFound: There is no such session.
            SessionWasErased: It was erased.
        """
        changes = check_tags(tags)
        refuse_gone(self._reader.find(session_id, below=False).row)
        event = SessionTagged(
            about=session_id, set=changes, removed=tuple(remove), by=by, salt=new_salt()
        )
        self._append_statement("tagged", event)

    def annotate(
        self,
        session_id: str,
        *,
        name: str,
        value: object = None,
        step: int | None = None,
        comment: str | None = None,
        by: str | None = None,
    ) -> None:
        """Judge a session, or an attempt in it: a score, a label, a comment.

        The recorded events of the session are not changed; the judgement is one more event. It
        replaces an earlier one with the same name, step and `by`. Without value and comment, it
        removes that one.

        Args:
            session_id: The whole id.
            name: The name of the judgement, for example "correct".
            value: The verdict: True or False, a number, a text, or any value; None for a comment
                alone.
            step: The number of the attempt in the session, as `request` of `list_calls`; None for
                the whole session.
            comment: The reason, in words.
            by: The person or program that judges.

        Raises:
            ValueError: The name is empty, or the step is not a number from 1.
            SessionNotFound: There is no such session.
            SessionWasErased: It was erased.
        """
        if not name:
            raise ValueError("an annotation needs a name, as 'correct'")
        if step is not None and not 0 < step < 2**63:
            raise ValueError(f"step is the number of an attempt, from 1; not {step}")
        refuse_gone(self._reader.find(session_id, below=False).row)
        event = SessionAnnotated(
            about=session_id, step=step, name=name, value=to_plain(value), comment=comment, by=by,
            salt=new_salt(),
        )  # fmt: skip
        self._append_statement("annotated", event)

    def save_error(self, error: BaseException, *, context: object = None) -> str:
        """Record an error that was raised outside of any session.

        Args:
            error: The exception.
            context: Any value that helps to understand the error.

        Returns:
            An id; `events(id)` reads the error back.
        """
        event = ErrorRecorded(
            error=describe(error),
            context=to_plain(context),
            partition=self.partition,
            salt=new_salt(),
        )
        return self._append_statement("error", event)

    def _append_statement(
        self, kind: str, event: SessionTagged | SessionAnnotated | ErrorRecorded
    ) -> str:
        stream = f"{kind}-{new_id()}"
        append_statement(self.log, stream, event, salt=event.salt, redact=self.redact)
        return stream
