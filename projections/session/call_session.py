"""What a user looks at: a session with everything that happened in it (see `fold`)."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from lllm.events.model import Content, Error, State, Usage
from lllm.events.table_rows import TableRow
from lllm.projections.session.invoke_cost import InvokeCost, total


class InvokeTrace(msgspec.Struct, TableRow, kw_only=True):
    """One attempt to call a model. elapsed: nanoseconds, None while it has not ended.

    state: "success", "failure", or "running" while no answer has come (or will, where the process
    died). price: "priced", "provider", "free" or "unpriced", and `price_source` who says so.
    price_version: of the price data; price_effective: the date from which its rates hold. rates:
    US dollars for one token of each kind, as decimal text; parts: nano-dollars of each component.
    wasted: whether its answer was thrown away, or never came whole.
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


class ToolInterrupt(msgspec.Struct, TableRow, kw_only=True):
    """One run of a tool that an answer asked for. arguments: as parsed, else the text as sent.

    told: what the model got. value: what the tool returned, where that is more than its text.
    repeats: the earlier tool ordinal whose result stands for this one's.
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
    """One `agent.respond()`. The dicts are by step, the model's turns counted from 1.

    delivery: the parsed answer, else its text. interrupts: the tools that ran. exception_retries:
    why answers were refused; llm_recalls: why calls were made again. started: nanoseconds UTC.
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
        """How many answers were refused and asked for again."""
        return sum(len(reasons) for reasons in self.exception_retries.values())

    @property
    def llm_recalls_count(self) -> int:
        """How many calls failed and were made again."""
        return sum(len(reasons) for reasons in self.llm_recalls.values())

    @property
    def cost(self) -> InvokeCost:
        """What its attempts cost together, failed and refused ones included."""
        return total(trace.cost for trace in self._traces())

    @property
    def wasted_cost(self) -> InvokeCost:
        """What those of them cost whose answer was thrown away, or never came whole."""
        return total(trace.cost for trace in self._traces() if trace.wasted)

    def _traces(self) -> Iterator[InvokeTrace]:
        return (trace for traces in self.invoke_traces.values() for trace in traces)


class TacticCallSession(msgspec.Struct, TableRow, kw_only=True):
    """One call of a tactic, with everything that happened in it.

    agent_sessions: by agent, in the order of their calls. sub_tactic_sessions: the calls of other
    tactics from this one, by tactic name. started: nanoseconds UTC; elapsed: nanoseconds.
    options: the keyword arguments of the call. delivery: what `call` returned, in its recorded
    form. invoke_traces: calls to a model outside
    any agent. unknown_events: how many events this version of lllm could not read; missing_events:
    how many are not in the log, which could not be written then, or is damaged.
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
        """What all attempts of this call and of those below it cost."""
        return total(trace.cost for trace in self._traces())

    @property
    def agent_cost(self) -> InvokeCost:
        """What the attempts of this call cost, without those of the calls below it."""
        calls = [call for calls in self.agent_sessions.values() for call in calls]
        own = [trace.cost for trace in self.invoke_traces]
        return total([*own, *(call.cost for call in calls)])

    @property
    def sub_tactic_cost(self) -> InvokeCost:
        """What the calls of other tactics cost, with everything below them."""
        below = [one for sessions in self.sub_tactic_sessions.values() for one in sessions]
        return total(session.total_cost for session in below)

    @property
    def agent_call_count(self) -> int:
        """How many times this call had an agent respond; those of calls below are not counted."""
        return sum(map(len, self.agent_sessions.values()))

    @property
    def sub_tactic_call_count(self) -> int:
        """How many times this call called another tactic; calls further below are not counted."""
        return sum(map(len, self.sub_tactic_sessions.values()))

    def summary(self) -> dict[str, object]:
        """The call in five fields: tactic, state, agent_calls, sub_tactic_calls, total_cost (US
        dollars)."""
        return {
            "tactic": self.tactic_name,
            "state": self.state,
            "agent_calls": self.agent_call_count,
            "sub_tactic_calls": self.sub_tactic_call_count,
            "total_cost": self.total_cost.cost,
        }

    @property
    def wasted_cost(self) -> InvokeCost:
        """What those of them cost whose answer was thrown away, or never came whole."""
        return total(trace.cost for trace in self._traces() if trace.wasted)

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
