"""The command `lllm demo`: runs a support desk, then explains the log that it wrote."""

from __future__ import annotations

import datetime as dt
import shlex
from collections.abc import Callable

import click
from rich.console import Console
from rich.text import Text

from lllm.cli.open_store import VARIABLE, named_in_environment
from lllm.cli.render import formats
from lllm.cli.render.console import joined, sign, stdout
from lllm.cli.render.costs import show_costs
from lllm.cli.render.replays import show_report
from lllm.cli.render.session import details_of, show_session, show_traceback
from lllm.cli.render.session_list import show_list
from lllm.demo import (
    MODEL,
    SCRIPT,
    TICKETS,
    AnswerTicket,
    config,
    formal_desk,
    replayed_desk,
)
from lllm.events.errors import ConfigError, MissingExtra, StoreError
from lllm.invokers import Invoker
from lllm.invokers.invoker_by_name import check_key, resolve_invoker
from lllm.invokers.scripted import ScriptedInvoker
from lllm.replay.report import ReplayReport
from lllm.replay.target import ReplayTarget
from lllm.replay.verdict import ReplayResult
from lllm.replay.workers import replay_one
from lllm.store.log_store import LogStore, session_host
from lllm.store.summaries import SessionSummary
from lllm.terminal_safe import visible

DEFAULT_PATH = "lllm-demo/runs.db"
PARTITION = "demo"  # keeps the demo's sessions apart from any others


def run(given: str | None, model: str | None, zone: dt.tzinfo) -> None:
    """Run the demo and show its sessions.

    Args:
        given: The path of the store; None for LLLM_STORE or DEFAULT_PATH.
        model: The name of a real model; None for the embedded one.
        zone: The time zone of the times shown.

    Raises:
        click.UsageError: The model can't be called.
        StoreError: LLLM_STORE names a store with other sessions.
        LogError: The store can't be opened.
    """
    invoker = ScriptedInvoker(SCRIPT) if model is None else _real_invoker(model)
    path = given or named_in_environment() or DEFAULT_PATH
    console = stdout()
    with LogStore.open(path, partition=PARTITION) as store:
        if given is None:
            _refuse_others(store, path)
        _print_intro(console, path, model)
        _answer_tickets(console, store, invoker, model or MODEL)
        option = f"--store {shlex.quote(path)}"
        shown = _show_what_is_left(console, store, option, zone)
        if model is None:  # the commands shown below would not fit the answers of a real model
            _replay(console, store, shown, option)
        _print_next(console, shown.session_id, option)


def _real_invoker(model: str) -> Invoker:
    try:
        check_key(model)
        return resolve_invoker(model)
    except (ConfigError, MissingExtra) as error:
        raise click.UsageError(f"--model asks a real model. {error}") from None


def _refuse_others(store: LogStore, path: str) -> None:
    """Refuse a store with other sessions, since the demo's sessions would stay among them."""
    if any(one.partition != PARTITION for one in store.list_sessions(limit=1)):
        raise StoreError(
            f"{path}, which {VARIABLE} names, is in use for other sessions. Give the demo a store "
            f"of its own: lllm demo --store {DEFAULT_PATH}"
        )


def _print_intro(console: Console, path: str, model: str | None) -> None:
    console.print(Text("A support desk answers four tickets.", "bold"))
    if model is None:
        console.print(
            Text(
                "An embedded model speaks from a script, without key or network. Tokens are "
                f"estimated from the length of the texts, and the costs are what {MODEL} would "
                "charge for them by its list price."
            )
        )
    else:
        console.print(Text(f"{visible(model)} answers, and is charged for."))
    console.print(Text(f"Everything goes to {visible(path)}."))
    console.print()


def _answer_tickets(console: Console, store: LogStore, invoker: Invoker, model: str) -> None:
    desk = AnswerTicket(config(invoker, model), log_store=store)
    for task, tags in TICKETS:
        ticket = f"{tags['customer']}: {task['text']}"
        try:
            desk(task, tags=tags)
        # the error and its traceback are in the log; the next ticket may succeed
        except Exception as error:
            reason = Text(formats.shortened(f"{type(error).__name__}: {error}", 200), "red")
            console.print(joined((Text.assemble(sign("failure"), " ", ticket), reason)))
        else:
            console.print(Text.assemble(sign("success"), " ", ticket))


def _show_what_is_left(
    console: Console, store: LogStore, option: str, zone: dt.tzinfo
) -> SessionSummary:
    """Show the sessions and their costs; return the one that is shown as a tree."""
    sessions = store.list_sessions(limit=len(TICKETS))
    if not sessions:
        raise StoreError("Nothing could be written to the store.")
    _print_command(console, f"lllm ls {option}", "The list, newest first")
    show_list(console, sessions, zone)

    # In the embedded run, this is the session of the first ticket.
    found = max(sessions, key=lambda one: (one.state == "success", one.calls))
    _print_command(console, f"lllm show {found.session_id} {option}", "One session as a tree")
    loaded = session_host(store).reader.load_with_events(found.session_id)
    show_session(console, loaded.record, details_of(store, loaded), zone)

    failed = next((one for one in sessions if one.state == "failure"), None)
    if failed is not None:
        title = "The one that failed: the end of what `show` says of it"
        _print_command(console, f"lllm show {failed.session_id} {option}", title)
        traceback = store.load_session_record(failed.session_id).traceback
        show_traceback(console, traceback or "")

    for group_by, title in (("tactic", "Cost by tactic"), ("tag:customer", "Cost by customer")):
        _print_command(console, f"lllm cost --by {group_by} {option}", title)
        show_costs(console, store.export_cost_summary(group_by=group_by), (group_by,))

    return found


def _replay(console: Console, store: LogStore, recorded: SessionSummary, option: str) -> None:
    """Replay a session twice: with the same code, and with one word of a prompt changed."""

    def replay(make: Callable[[], AnswerTicket], title: str) -> ReplayResult:
        code = f"{make.__module__}:{make.__name__}"
        command = f"lllm replay {recorded.session_id} --using {code} {option}"
        _print_command(console, command, title)
        result = replay_one(ReplayTarget(make(), code), store, recorded.session_id)
        show_report(console, ReplayReport([result]))
        console.print()
        return result

    again = replay(replayed_desk, "That session once more, answered from its log")
    calls = formats.counted(recorded.calls, "call")
    cost = formats.money(recorded.total_cost, recorded.unpriced_calls)
    console.print(Text(f"Recorded: {calls} of a model, {cost}."))
    took = formats.duration(again.seconds)
    console.print(Text(f"Replayed: 0 calls, {formats.money(0)}, in {took}. No tool ran."))

    replay(
        formal_desk,
        'The same with one word changed: the writer\'s prompt says "formally", not "briefly"',
    )
    console.print(
        Text(
            "The sorter asks what it asked then. The writer's first request differs, and is shown "
            "beside the recorded one. The replay ends there; no model was asked."
        )
    )


def _print_next(console: Console, session_id: str, option: str) -> None:
    console.print()
    console.print(Text("To try next:", "bold"))
    for command in (
        f"lllm web --open {option}",
        f"lllm ls --tag customer=alice {option}",
        f"lllm events {session_id} {option}",
        f"lllm cost --by model --json {option}",
    ):
        console.print(Text(f"  {command}", "cyan"), soft_wrap=True)


def _print_command(console: Console, command: str, title: str) -> None:
    console.print()
    console.print(Text(title, "bold"))
    console.print(Text(f"$ {command}", "dim"), soft_wrap=True)
