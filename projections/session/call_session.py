"""The session objects that users get, with everything that happened in a call.

Those of which a session has many have gc=False: they are trees without cycles, and the garbage
collector would look at all of them while it is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from lllm.events.dataframe_rows import TableRow
from lllm.events.model import Content, Error, State, Usage
from lllm.projections.session.invoke_cost import InvokeCost, dollars, nanos, total


class InvokeTrace(msgspec.Struct, TableRow, kw_only=True, gc=False):
    """One attempt to call a model.

    Attributes:
        request: The number of the attempt in the session, from 1.
        step: The number of the model's turn within the agent call, from 1.
        attempt: The number of the attempt within that turn, from 1.
        provider: The provider that was called.
        asked: The model that was requested.
        model: The model that answered, by the provider's name for it; None if none did.
        state: "success", "failure", or "running" if no answer has come yet, or the process died
            before it.
        content: The answer, or the part of it that arrived before a failure.
        finish: Why the model stopped; None without an answer.
        error: The error; None if the attempt succeeded.
        usage: The token counts; None if the provider sent none.
        usage_raw: The usage exactly as the provider sent it.
        price: "priced", "provider", "free" or "unpriced"; None if the attempt used nothing that is
            known.
        price_source: The name of the price list.
        price_version: The version of the price list.
        price_effective: The date from which the rates are valid, YYYY-MM-DD.
        price_reason: Why the price is unknown or zero, or what its rates assume.
        rates: US dollars for one token of each component, or one use of a tool, as decimal text.
        parts: The cost of each component, in nano-dollars.
        cost: The tokens and their cost in US dollars.
        started: The start of the attempt, nanoseconds UTC.
        elapsed: The duration in nanoseconds; None if it has not ended.
        first_token: Nanoseconds to the first piece of a stream; None without one.
        wasted: True if the answer was rejected or incomplete.
        recorded_cost: In a replay or fork: US dollars that the original answer cost, which is now
            taken from the log. None for other attempts, or if that cost is unknown.
    """

    request: int
    step: int
    attempt: int
    provider: str
    asked: str
    model: str | None = None
    state: State = "running"
    content: Content | None = None
    finish: str | None = None
    error: Error | None = None
    usage: Usage | None = None
    usage_raw: object = None
    price: str | None = None
    price_source: str | None = None
    price_version: str | None = None
    price_effective: str | None = None
    price_reason: str | None = None
    rates: dict[str, str] = {}
    parts: dict[str, int] = {}
    cost: InvokeCost = InvokeCost()
    started: int
    elapsed: int | None = None
    first_token: int | None = None
    wasted: bool = False
    recorded_cost: float | None = None


class ToolInterrupt(msgspec.Struct, TableRow, kw_only=True, gc=False):
    """One run of a tool that a model asked for.

    Attributes:
        tool: The number of the tool call in the session, from 1.
        id: The provider's id of the call.
        name: The tool's name.
        arguments: The parsed arguments, or the text as the model sent it if it can't be parsed.
        state: "success", "failure" or "running".
        told: The text that the model gets as the result.
        value: The value that the tool returned; None if the text says all of it.
        repeats: The number of the earlier identical call whose result was given again; None if the
            tool ran.
        error: The error; None if the tool succeeded.
        started: The start of the run, nanoseconds UTC.
        elapsed: The duration in nanoseconds; None if it has not ended.
    """

    tool: int
    id: str
    name: str
    arguments: object = None
    state: State = "running"
    told: str | None = None
    value: object = None
    repeats: int | None = None
    error: Error | None = None
    started: int
    elapsed: int | None = None


class AgentCallSession(msgspec.Struct, TableRow, kw_only=True, gc=False):
    """One call of `agent.respond()`.

    The keys of its dicts are steps: the numbers of the model's turns, from 1.

    Attributes:
        agent_name: The agent's name.
        state: "success", "failure", "running" or "interrupted".
        delivery: The parsed answer, or its text without a parser.
        call: The number of the agent call in the session, from 1.
        dialog: The number of the dialog in the session.
        definition: The stream with the agent's definition.
        interrupts: The tool calls, by step.
        exception_retries: Why answers were rejected, by step.
        llm_recalls: Why calls of the model were repeated, by step.
        invoke_traces: The attempts to call the model, by step.
        error: The error; None if the call succeeded.
        started: The start of the call, nanoseconds UTC.
        elapsed: The duration in nanoseconds; None if it has not ended.
    """

    agent_name: str
    state: State = "running"
    delivery: object = None
    call: int
    dialog: int
    definition: str
    interrupts: dict[int, list[ToolInterrupt]] = {}
    exception_retries: dict[int, list[str]] = {}
    llm_recalls: dict[int, list[str]] = {}
    invoke_traces: dict[int, list[InvokeTrace]] = {}
    error: Error | None = None
    started: int
    elapsed: int | None = None

    @property
    def exception_retries_count(self) -> int:
        """The number of answers that were rejected and asked for again."""
        return sum(len(reasons) for reasons in self.exception_retries.values())

    @property
    def llm_recalls_count(self) -> int:
        """The number of failed calls of the model that were made again."""
        return sum(len(reasons) for reasons in self.llm_recalls.values())

    @property
    def cost(self) -> InvokeCost:
        """The cost of all attempts, including failed and rejected ones."""
        return total(trace.cost for trace in self._traces())

    @property
    def wasted_cost(self) -> InvokeCost:
        """The cost of attempts whose answer was rejected or incomplete."""
        return total(trace.cost for trace in self._traces() if trace.wasted)

    def _traces(self) -> Iterator[InvokeTrace]:
        return (trace for traces in self.invoke_traces.values() for trace in traces)


class TacticCallSession(msgspec.Struct, TableRow, kw_only=True):
    """One call of a tactic, with everything that happened in it.

    Attributes:
        session_id: The session's id.
        tactic_name: The tactic's short name.
        tactic_path: The tactic's stable path, "package::name".
        state: "success", "failure", "running" or "interrupted".
        task: The first argument of the call, in its recorded form.
        options: The keyword arguments of the call, in their recorded form.
        agent_sessions: The calls of each agent in order, by the agent's name.
        sub_tactic_sessions: The calls of other tactics from this one, by tactic name.
        delivery: The result of the call, in its recorded form.
        invoke_traces: The calls of a model outside of any agent.
        interrupts: The calls of tools that no recorded answer asked for, such as those of an MCP
            client in a script.
        error: The error; None if the call succeeded.
        cancelled: True if it failed because it was cancelled.
        metadata: The metadata that was given with the call, in its recorded form.
        partition: The partition of the store that it belongs to; "" for the default one.
        started: The start of the call, nanoseconds UTC.
        elapsed: The duration in nanoseconds; None if it has not ended.
        unknown_events: The number of events that this version of lllm could not read.
        missing_events: The number of events that are missing from the log, because they could not
            be written or are damaged.
    """

    session_id: str
    tactic_name: str
    tactic_path: str
    state: State = "running"
    task: object = None
    options: object = None
    agent_sessions: dict[str, list[AgentCallSession]] = {}
    sub_tactic_sessions: dict[str, list[TacticCallSession]] = {}
    delivery: object = None
    invoke_traces: list[InvokeTrace] = []
    interrupts: list[ToolInterrupt] = []
    error: Error | None = None
    cancelled: bool = False
    metadata: object = None
    partition: str = ""
    started: int
    elapsed: int | None = None
    unknown_events: int = 0
    missing_events: int = 0

    def _repr_html_(self) -> str:
        from lllm.projections.session.notebook_html import session_html

        return session_html(self)

    def show(self) -> None:
        """Show the session: in a notebook as HTML, else on stdout as text."""
        from lllm.projections.session import notebook_html

        notebook_html.show(self, self._repr_html_())

    @property
    def traceback(self) -> str | None:
        """The Python traceback of a failed call."""
        return self.error.traceback if self.error else None

    @property
    def error_traceback(self) -> str | None:
        """The same as `traceback`, under another name."""
        return self.traceback

    @property
    def total_cost(self) -> InvokeCost:
        """The cost of all attempts of this call and of the calls below it."""
        return total(trace.cost for trace in self._traces())

    @property
    def agent_cost(self) -> InvokeCost:
        """The cost of this call's own attempts, without the calls below it."""
        calls = [call for calls in self.agent_sessions.values() for call in calls]
        own = [trace.cost for trace in self.invoke_traces]
        return total([*own, *(call.cost for call in calls)])

    @property
    def sub_tactic_cost(self) -> InvokeCost:
        """The cost of all calls of other tactics below this one."""
        below = [one for sessions in self.sub_tactic_sessions.values() for one in sessions]
        return total(session.total_cost for session in below)

    @property
    def agent_call_count(self) -> int:
        """How often this call asked an agent to respond, without the calls below it."""
        return sum(map(len, self.agent_sessions.values()))

    @property
    def sub_tactic_call_count(self) -> int:
        """How often this call directly called another tactic."""
        return sum(map(len, self.sub_tactic_sessions.values()))

    def summary(self) -> dict[str, object]:
        """Summarize the result of the call in five fields.

        Returns:
            A dict with the keys tactic, state, agent_calls, sub_tactic_calls, and total_cost in US
            dollars.
        """
        return {
            "tactic": self.tactic_name,
            "state": self.state,
            "agent_calls": self.agent_call_count,
            "sub_tactic_calls": self.sub_tactic_call_count,
            "total_cost": self.total_cost.cost,
        }

    @property
    def wasted_cost(self) -> InvokeCost:
        """The cost of wasted attempts, of this call and those below it.

        See `InvokeTrace.wasted`.
        """
        return total(trace.cost for trace in self._traces() if trace.wasted)

    @property
    def recorded_cost(self) -> float:
        """US dollars that answers from the log cost originally, in a replay or in a fork's past."""
        known = (trace.recorded_cost or 0.0 for trace in self._traces())
        return dollars(sum(nanos(one) for one in known))

    def _traces(self) -> Iterator[InvokeTrace]:
        waiting = [self]
        while waiting:  # not recursive: a log may have more levels than the stack
            one = waiting.pop()
            for calls in one.agent_sessions.values():
                for call in calls:
                    yield from call._traces()
            yield from one.invoke_traces
            for sessions in one.sub_tactic_sessions.values():
                waiting += sessions
