"""`lllm demo`: the support desk at work, then a walk through what its log shows."""

from __future__ import annotations

import datetime as dt
import shlex

import click
from rich.console import Console
from rich.text import Text

from lllm.cli.open_store import VARIABLE, named_in_environment
from lllm.cli.render import formats
from lllm.cli.render.console import joined, sign, stdout
from lllm.cli.render.costs import show_costs
from lllm.cli.render.session import read_details, show_session, show_traceback
from lllm.cli.render.session_list import show_list
from lllm.demo import MODEL, SCRIPT, TICKETS, AnswerTicket, config
from lllm.events.errors import ConfigError, MissingExtra, StoreError
from lllm.invokers import Invoker
from lllm.invokers.resolve import check_key, resolve_invoker
from lllm.invokers.scripted import ScriptedInvoker
from lllm.store.log_store import LogStore
from lllm.store.summaries import SessionSummary
from lllm.terminal_safe import visible

DEFAULT_PATH = "lllm-demo/runs.db"
PARTITION = "demo"  # keeps the demo's sessions apart from any others


def run(given: str | None, model: str | None, zone: dt.tzinfo) -> None:
    """Run the demo and show what it left.

    given: the path of the store, None for LLLM_STORE or DEFAULT_PATH. model: the name of a real
    one, None for the embedded one. zone: of the times shown.

    Raises click.UsageError where a model can't be asked, StoreError for a store that LLLM_STORE
    names and that others use, LogError where the store can't be opened.
    """
    invoker = ScriptedInvoker(SCRIPT) if model is None else _real(model)
    path = given or named_in_environment() or DEFAULT_PATH
    console = stdout()
    with LogStore.open(path, partition=PARTITION) as store:
        if given is None:
            _refuse_others(store, path)
        _explain(console, path, model)
        _work(console, store, invoker, model or MODEL)
        _walk(console, store, f"--store {shlex.quote(path)}", zone)


def _real(model: str) -> Invoker:
    try:
        check_key(model)
        return resolve_invoker(model)
    except (ConfigError, MissingExtra) as error:
        raise click.UsageError(f"--model asks a real model. {error}") from None


def _refuse_others(store: LogStore, path: str) -> None:
    """What is logged can't be taken out again, and a demo's costs are nobody's."""
    if any(one.partition != PARTITION for one in store.list_sessions(limit=1)):
        raise StoreError(
            f"{path}, which {VARIABLE} names, is in use for other sessions. Give the demo a store "
            f"of its own: lllm demo --store {DEFAULT_PATH}"
        )


def _explain(console: Console, path: str, model: str | None) -> None:
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


def _work(console: Console, store: LogStore, invoker: Invoker, model: str) -> None:
    desk = AnswerTicket(config(invoker, model), log_store=store)
    for task, tags in TICKETS:
        said = f"{tags['customer']}: {task['text']}"
        try:
            desk(task, tags=tags)
        except Exception as error:  # it is in the log, with its traceback; the next may succeed
            reason = Text(formats.shortened(f"{type(error).__name__}: {error}", 200), "red")
            console.print(joined((Text.assemble(sign("failure"), " ", said), reason)))
        else:
            console.print(Text.assemble(sign("success"), " ", said))


def _walk(console: Console, store: LogStore, option: str, zone: dt.tzinfo) -> None:
    sessions = store.list_sessions(limit=len(TICKETS))
    if not sessions:
        raise StoreError("Nothing could be written to the store.")
    _command(console, f"lllm ls {option}", "The list, newest first")
    show_list(console, sessions, zone)

    found = _most_eventful(sessions)
    _command(console, f"lllm show {found.session_id} {option}", "One session as a tree")
    record = store.load_session_record(found.session_id)
    show_session(console, record, read_details(store, record.session), zone)

    failed = next((one for one in sessions if one.state == "failure"), None)
    if failed is not None:
        title = "The one that failed: the end of what `show` says of it"
        _command(console, f"lllm show {failed.session_id} {option}", title)
        traceback = store.load_session_record(failed.session_id).traceback
        show_traceback(console, traceback or "")

    for group_by, title in (("tactic", "Cost by tactic"), ("tag:customer", "Cost by customer")):
        _command(console, f"lllm cost --by {group_by} {option}", title)
        show_costs(console, store.export_cost_summary(group_by=group_by), (group_by,))

    console.print()
    console.print(Text("Three to try next:", "bold"))
    for command in (
        f"lllm ls --tag customer=alice {option}",
        f"lllm events {found.session_id} {option}",
        f"lllm cost --by model --json {option}",
    ):
        console.print(Text(f"  {command}", "cyan"), soft_wrap=True)


def _most_eventful(sessions: list[SessionSummary]) -> SessionSummary:
    """The first ticket's in the embedded run."""
    return max(sessions, key=lambda one: (one.state == "success", one.calls))


def _command(console: Console, command: str, title: str) -> None:
    console.print()
    console.print(Text(title, "bold"))
    console.print(Text(f"$ {command}", "dim"), soft_wrap=True)
