"""The session objects that users get, with everything that happened in a call."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from lllm.events.dataframe_rows import TableRow
from lllm.events.model import Content, Error, State, Usage
from lllm.projections.session.invoke_cost import InvokeCost, dollars, nanos, total


class InvokeTrace(msgspec.Struct, TableRow, kw_only=True):
    """One attempt to call a model.

    Attributes:
        request: Its ordinal in the session, from 1.
        step: The model's turn within the agent's call, from 1.
        attempt: The try of that turn, from 1.
        provider: The provider that was asked.
        asked: The model that was asked.
        model: The model that answered, by the provider's name; None where none did.
        state: "success", "failure", or "running" while no answer has come (or will, where the
            process died).
        content: The answer, or what came of it before it failed.
        finish: Why the model ended.
        error: Why it failed.
        usage: What it used, None where nobody said.
        usage_raw: What the provider said of it, as it came.
        price: "priced", "provider", "free" or "unpriced"; None where nobody said that it used
            anything.
        price_source: Who says so.
        price_version: Of the price data.
        price_effective: The date from which its rates hold.
        price_reason: Why there is no price, or what of it is special.
        rates: US dollars for one token of each kind, as decimal text.
        parts: Nano-dollars of each component.
        cost: Tokens and US dollars.
        started: Nanoseconds UTC.
        elapsed: Nanoseconds, None while it has not ended.
        first_token: Nanoseconds to the first piece of a stream, None without one.
        wasted: True if its answer was thrown away, or never came whole.
        recorded_cost: US dollars that the answer cost at first, which a replay or a fork has from
            the log for nothing; None for all others, and where nobody knew.
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


class ToolInterrupt(msgspec.Struct, TableRow, kw_only=True):
    """One run of a tool that a model asked for.

    Attributes:
        tool: Its ordinal in the session, from 1.
        id: The id that the model gave the call.
        name: The tool's name.
        arguments: As parsed, else the text as sent.
        state: "success", "failure" or "running".
        told: What the model got.
        value: What the tool returned, where that is more than its text.
        repeats: The ordinal of the earlier run whose result stands for this one's.
        error: Why it failed.
        started: Nanoseconds UTC.
        elapsed: Nanoseconds, None while it has not ended.
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


class AgentCallSession(msgspec.Struct, TableRow, kw_only=True):
    """One `agent.respond()`. Its dicts are by step: the model's turns, counted from 1.

    Attributes:
        agent_name: The agent's name.
        state: "success", "failure", "running" or "interrupted".
        delivery: The parsed answer, else its text.
        call: Its ordinal in the session, from 1.
        dialog: The ordinal of the dialog.
        definition: The stream that holds the agent's definition.
        interrupts: The tools that ran.
        exception_retries: Why answers were refused.
        llm_recalls: Why calls of the model were made again.
        invoke_traces: The attempts to call the model.
        error: Why it failed.
        started: Nanoseconds UTC.
        elapsed: Nanoseconds, None while it has not ended.
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
        """The number of answers that were refused and asked for again."""
        return sum(len(reasons) for reasons in self.exception_retries.values())

    @property
    def llm_recalls_count(self) -> int:
        """The number of calls of the model that failed and were made again."""
        return sum(len(reasons) for reasons in self.llm_recalls.values())

    @property
    def cost(self) -> InvokeCost:
        """The cost of all attempts, including failed and refused ones."""
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
        task: What it was asked, in its recorded form.
        options: The keyword arguments of the call, in their recorded form.
        agent_sessions: By agent, in the order of their calls.
        sub_tactic_sessions: The calls of other tactics from this one, by tactic name.
        delivery: What `call` returned, in its recorded form.
        invoke_traces: Calls to a model outside of any agent.
        error: Why it failed.
        cancelled: True if it failed because it was cancelled.
        metadata: What was given with the call, in its recorded form.
        partition: The partition that it belongs to, "" for none.
        started: Nanoseconds UTC.
        elapsed: Nanoseconds, None while it has not ended.
        unknown_events: How many events this version of lllm could not read.
        missing_events: How many are not in the log: they could not be written, or are damaged.
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
    error: Error | None = None
    cancelled: bool = False
    metadata: object = None
    partition: str = ""
    started: int
    elapsed: int | None = None
    unknown_events: int = 0
    missing_events: int = 0

    @property
    def traceback(self) -> str | None:
        """The Python traceback of a failed call."""
        return self.error.traceback if self.error else None

    @property
    def error_traceback(self) -> str | None:
        """The same as `traceback`."""
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
        """How often this call asked an agent to respond; calls below don't count."""
        return sum(map(len, self.agent_sessions.values()))

    @property
    def sub_tactic_call_count(self) -> int:
        """How often this call directly called another tactic."""
        return sum(map(len, self.sub_tactic_sessions.values()))

    def summary(self) -> dict[str, object]:
        """Summarize the result of the call in five fields.

        Returns:
            tactic, state, agent_calls, sub_tactic_calls, and total_cost in US dollars.
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
        """The cost of wasted attempts, calls below included (`InvokeTrace.wasted`)."""
        return total(trace.cost for trace in self._traces() if trace.wasted)

    @property
    def recorded_cost(self) -> float:
        """US dollars that answers from the log cost at first: of a replay, or a fork's past."""
        known = (trace.recorded_cost or 0.0 for trace in self._traces())
        return dollars(sum(nanos(one) for one in known))

    def _traces(self) -> Iterator[InvokeTrace]:
        waiting = [self]
        while waiting:  # a log may hold more levels than a stack
            one = waiting.pop()
            for calls in one.agent_sessions.values():
                for call in calls:
                    yield from call._traces()
            yield from one.invoke_traces
            for sessions in one.sub_tactic_sessions.values():
                waiting += sessions
