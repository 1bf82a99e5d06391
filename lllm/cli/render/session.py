"""Prints one session as a tree: agents, model calls, tools and sub-tactics."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping

import msgspec
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from lllm.cli.render import formats
from lllm.cli.render.console import joined, labelled, show, sign, state_text
from lllm.cli.render.messages import add_exchange
from lllm.cli.render.price_breakdown import price_breakdown
from lllm.cli.render.session_tree import attempts, family
from lllm.events.errors import LogError, SessionNotFound
from lllm.events.model import Error, Event, Origin, RetryScheduled, SessionEdited, SessionStarted
from lllm.projections.session.call_session import (
    AgentCallSession,
    InvokeTrace,
    TacticCallSession,
    ToolInterrupt,
)
from lllm.projections.session.exchanges import EXCHANGED, NOTHING, Exchanges, exchanges_of
from lllm.projections.session.invoke_cost import InvokeCost
from lllm.projections.session.step_names import numbered_calls, step_name
from lllm.store.loaded_session import LoadedSession
from lllm.store.log_store import LogStore
from lllm.store.summaries import SessionRecord
from lllm.terminal_safe import visible, visible_lines

_INDENT = 4  # columns for each level of the tree
_ROOM = 60  # columns that a session's own levels and a few words need
_DEEPEST = 100  # levels of sessions
_LONG = 240  # characters shown of a task or a delivery
_SHORT = 80  # characters shown of arguments, results and messages


class Details(msgspec.Struct, frozen=True):
    """Details that the tree shows and only the events contain.

    Attributes:
        retries: The scheduled retries, by the session and the number of the failed request.
        exchanges: The messages of calls outside of any agent, by session.
        edits: The changes that a fork made, by the session, the agent call, the step and the
            attempt.
        origin: The session that this one replays or forks; None for most.
        recorded_cost: The cost of the replayed session; None if this store does not have it.
    """

    retries: Mapping[tuple[str, int], RetryScheduled]
    exchanges: Mapping[str, Exchanges]
    edits: Mapping[tuple[str, int, int, int], SessionEdited]
    origin: Origin | None = None
    recorded_cost: InvokeCost | None = None


def details_of(store: LogStore, loaded: LoadedSession) -> Details:
    """Collect the details that the tree shows.

    Args:
        store: The store that has the session, and perhaps the one that it replays.
        loaded: The session.

    Returns:
        The details of the session and its descendants.
    """
    retries: dict[tuple[str, int], RetryScheduled] = {}
    exchanges: dict[str, Exchanges] = {}
    edits: dict[tuple[str, int, int, int], SessionEdited] = {}
    kinds: set[type[Event]] = {*EXCHANGED, RetryScheduled, SessionEdited}
    said = loaded.payloads_by_session(kinds)
    for one in family(loaded.session):
        payloads = said[one.session_id]
        for payload in payloads:
            if isinstance(payload, RetryScheduled):
                retries[one.session_id, payload.request] = payload
            elif isinstance(payload, SessionEdited):
                key = (one.session_id, payload.call, payload.step, payload.attempt)
                edits[key] = payload
        if one.invoke_traces:
            exchanges[one.session_id] = exchanges_of(payloads)
    return Details(retries, exchanges, edits, *_origin(store, loaded.start))


def _origin(store: LogStore, start: SessionStarted) -> tuple[Origin | None, InvokeCost | None]:
    """Find the session that this one replays or forks, and the cost of a replayed one."""
    origin = start.origin
    if origin is None or origin.mode != "replay":
        return origin, None
    try:
        return origin, store.load_session(origin.session).total_cost
    except (SessionNotFound, LogError):  # it came from a file, or its log is damaged
        return origin, None


def show_session(
    console: Console, record: SessionRecord, details: Details, zone: dt.tzinfo
) -> None:
    """Print a session as a tree, followed by the traceback if it failed.

    Args:
        console: The console to print to.
        record: The session to print.
        details: The details from its events.
        zone: The time zone of the times shown.
    """
    session = record.session
    tree = Tree(_heading(session), guide_style="dim")
    for line in _particulars(record, details, zone):
        tree.add(line)
    levels = (console.width - _ROOM) // _INDENT
    _add_inside(tree, session, details, max(1, min(levels, _DEEPEST)))
    show(console, tree)
    if record.traceback:
        show_traceback(console, record.traceback)


def show_traceback(console: Console, traceback: str) -> None:
    """Print a traceback with its last line in red.

    Args:
        console: The console to print to.
        traceback: The text that Python formatted.
    """
    above, _, last = visible_lines(traceback).rpartition("\n")
    console.print()
    console.print(Text(above), soft_wrap=True)
    console.print(Text(last, "red"), soft_wrap=True)


# -- sessions


def _heading(session: TacticCallSession) -> Text:
    return joined(
        (
            Text(visible(session.tactic_path), "bold"),
            state_text(session.state),
            formats.nanoseconds(session.elapsed) if session.elapsed is not None else "",
            _cost_text(session.total_cost, session.wasted_cost),
        ),
        "  ",
    )


def _particulars(record: SessionRecord, details: Details, zone: dt.tzinfo) -> Iterator[Text]:
    session = record.session
    yield joined((labelled("id", visible(session.session_id)),
                  f"started {formats.moment(record.timestamp, zone, seconds=True)}"))  # fmt: skip
    if details.origin is not None:
        yield _origin_text(details.origin, details.recorded_cost, session)
    if record.tags:
        yield labelled("tags", Text(formats.tag_list(record.tags), "cyan"))
    places = _places(session) if record.annotations else {}
    for said in record.annotations:
        place = None if said.step is None else places.get(said.step)
        yield labelled("note", formats.annotation_line(said, place))
    if session.partition:
        yield labelled("partition", visible(session.partition))
    if session.metadata is not None:
        yield labelled("metadata", formats.shortened(session.metadata, _LONG))
    if session.task is not None:
        yield labelled("task", formats.shortened(session.task, _LONG))
    prices = sorted(
        {_price_source(trace) for one in family(session) for trace in attempts(one)} - {""}
    )
    if prices:
        yield labelled("prices", ", ".join(prices))


def _places(session: TacticCallSession) -> dict[int, str]:
    """Name the attempts of a session by their numbers in it, which annotations have."""
    places = {
        trace.request: step_name(
            trace.request, trace.step, trace.attempt, trace.state, call.agent_name
        )
        for calls in session.agent_sessions.values()
        for call in calls
        for traces in call.invoke_traces.values()
        for trace in traces
    }
    for trace in session.invoke_traces:
        places[trace.request] = step_name(trace.request, trace.step, trace.attempt, trace.state)
    return places


def _origin_text(origin: Origin, cost: InvokeCost | None, session: TacticCallSession) -> Text:
    if origin.mode == "fork":
        at = "" if origin.at is None else f"from behind its event {origin.at:,}"
        shared = f"the past cost {formats.money(session.recorded_cost)} there"
        spent = shared if session.recorded_cost else ""
        return joined((labelled("fork of", visible(origin.session)), at, spent))
    spent = "" if cost is None else f"which cost {formats.money(cost.cost, cost.unpriced_calls)}"
    label = "replays" if origin.mode == "replay" else "imported from"
    return joined((labelled(label, visible(origin.session)), spent))


def _add_below(tree: Tree, session: TacticCallSession, details: Details, levels: int) -> None:
    branch = tree.add(_heading(session))
    branch.add(labelled("id", visible(session.session_id)))
    if session.task is not None:
        branch.add(labelled("task", formats.shortened(session.task, _SHORT)))
    if levels:
        _add_inside(branch, session, details, levels - 1)
    else:
        count = formats.counted(sum(1 for _ in family(session)) - 1, "session")
        command = f"lllm show {visible(session.session_id)}"
        branch.add(Text(f"… what is in it, and {count} below it: {command}", "yellow"))


def _add_inside(tree: Tree, session: TacticCallSession, details: Details, levels: int) -> None:
    """Add the contents of a session in the order of their start, and its end.

    Sessions below it are shown down to `levels`, because rich silently omits what has no room.
    """
    calls = [call for calls in session.agent_sessions.values() for call in calls]
    below = [one for sessions in session.sub_tactic_sessions.values() for one in sessions]
    entries: list[AgentCallSession | TacticCallSession | InvokeTrace | ToolInterrupt] = [
        *calls, *below, *session.invoke_traces, *session.interrupts,
    ]  # fmt: skip
    entries.sort(key=lambda entry: entry.started)
    names = numbered_calls(calls)
    for entry in entries:
        if isinstance(entry, AgentCallSession):
            _add_call(tree, session.session_id, entry, names[entry.call], details)
        elif isinstance(entry, TacticCallSession):
            _add_below(tree, entry, details, levels)
        elif isinstance(entry, ToolInterrupt):
            tree.add(_tool_line(entry))
        else:
            node = _add_attempt(tree, entry)
            exchanges = details.exchanges.get(session.session_id, {})
            add_exchange(node, entry, exchanges.get(entry.request, NOTHING))
    if session.unknown_events:
        count = formats.counted(session.unknown_events, "event")
        tree.add(Text(f"{count} of a newer lllm can't be shown", "yellow"))
    if session.missing_events:
        count = formats.counted(session.missing_events, "event")
        tree.add(Text(f"{count} missing in the log; `lllm verify` tells more", "yellow"))
    captured = session.invoke_traces or session.interrupts  # a script that delivers nothing
    if session.state == "success" and not (session.delivery is None and captured):
        tree.add(labelled("delivered", formats.shortened(session.delivery, _LONG)))
    elif session.error is not None:
        tree.add(_error_text(session.error, "cancelled: " if session.cancelled else ""))


def _price_source(trace: InvokeTrace) -> str:
    """Name the source and version of the prices."""
    if trace.price != "priced":
        return ""
    return visible(f"{trace.price_source or ''} {trace.price_version or ''}".strip())


# -- agents


def _add_call(
    tree: Tree, session_id: str, call: AgentCallSession, name: str, details: Details
) -> None:
    branch = tree.add(
        joined(
            (
                Text.assemble("agent ", (visible(name), "bold")),
                state_text(call.state),
                formats.nanoseconds(call.elapsed) if call.elapsed is not None else "",
                _cost_text(call.cost, call.wasted_cost),
            ),
            "  ",
        )
    )
    for step, traces in call.invoke_traces.items():
        for trace in traces:
            edit = details.edits.get((session_id, call.call, step, trace.attempt))
            if edit is not None:
                branch.add(_edit_line(edit))
            node = _add_attempt(branch, trace)
            if trace is traces[-1]:
                for tool in call.interrupts.get(step, ()):
                    node.add(_tool_line(tool))
            retry = details.retries.get((session_id, trace.request))
            if retry is not None:
                node.add(_retry_line(retry))
    if call.state == "success":
        branch.add(labelled("answer", formats.shortened(call.delivery, _LONG)))
    elif call.error is not None:
        branch.add(_error_text(call.error))


def _add_attempt(tree: Tree, trace: InvokeTrace) -> Tree:
    node = tree.add(_attempt_line(trace))
    bill = price_breakdown(trace)
    if bill:
        node.add(Text(bill, "dim"))
    if trace.price == "priced" and trace.price_reason:
        node.add(Text(formats.shortened(trace.price_reason, _LONG), "dim"))
    return node


def _attempt_line(trace: InvokeTrace) -> Text:
    step = step_name(trace.request, trace.step, trace.attempt, trace.state)
    return joined(
        (
            Text.assemble(sign(trace.state), f" {step}"),
            visible(trace.model or trace.asked),
            formats.nanoseconds(trace.elapsed) if trace.elapsed is not None else "",
            _token_text(trace.cost) if trace.usage is not None else "",
            _price_text(trace),
            Text("wasted", "yellow") if trace.wasted and trace.cost.cost else "",
            Text(visible(trace.finish), "dim") if trace.finish else "",
            _error_text(trace.error) if trace.error is not None else "",
        )
    )


def _price_text(trace: InvokeTrace) -> str | Text:
    if trace.price == "unpriced":
        return Text("unpriced", "yellow")
    return "" if trace.price is None else formats.money(trace.cost.cost)


def _tool_line(tool: ToolInterrupt) -> Text:
    mark = sign(tool.state) if tool.repeats is None else Text("=", "yellow")
    line = Text.assemble(
        mark, " ", (visible(tool.name), "magenta"),
        f" {formats.shortened(tool.arguments, _SHORT)}",
    )  # fmt: skip
    if tool.error is not None:
        line.append(" → ", "dim").append_text(_error_text(tool.error))
    elif tool.repeats is not None:
        line.append(f" → not run again; the result of call {tool.repeats} stands")
    elif tool.told is not None:
        line.append(" → ", "dim").append(formats.shortened(tool.told, _SHORT))
    if tool.elapsed is not None:
        line.append(f"  {formats.nanoseconds(tool.elapsed)}", "dim")
    return line


def _edit_line(edit: SessionEdited) -> Text:
    changes = (
        ("message", edit.message), ("result of tool", edit.tool), ("model", edit.model),
        ("parameters", edit.params), ("system prompt", edit.prompt),
    )  # fmt: skip
    told = [
        f"{name} {formats.shortened(value, _SHORT)}" for name, value in changes if value is not None
    ]
    return Text.assemble(("✎ changed here: ", "yellow"), ", ".join(told))


def _retry_line(retry: RetryScheduled) -> Text:
    wait = f" after {formats.nanoseconds(retry.wait)}" if retry.wait else ""
    what = "called again" if retry.kind == "llm_recall" else "asked again"
    return Text.assemble(
        (f"↻ {what}{wait} ({retry.attempt} of {retry.limit}): ", "yellow"),
        formats.shortened(retry.reason, _LONG),
    )


# -- pieces


def _error_text(error: Error, why: str = "") -> Text:
    message = f"{error.type.rpartition('.')[2]}: {error.message}" if error.message else error.type
    return Text(why + formats.shortened(message, _LONG), "red")


def _token_text(cost: InvokeCost) -> str:
    return formats.tokens(cost.prompt_tokens, cost.completion_tokens, cost.cached_prompt_tokens)


def _cost_text(cost: InvokeCost, wasted: InvokeCost) -> Text:
    """Format tokens and money; empty if nothing was spent."""
    if not (cost.total_tokens or cost.cost or cost.unpriced_calls):
        return Text()
    parts = [f"{formats.money(cost.tool_cost)} for tools"] if cost.tool_cost else []
    parts += [f"{formats.money(wasted.cost)} wasted"] if wasted.cost else []
    of_it = f" ({', '.join(parts)})" if parts else ""
    return Text(f"{_token_text(cost)}  {formats.money(cost.cost, cost.unpriced_calls)}{of_it}")
