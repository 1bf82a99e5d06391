"""The command `lllm otel`: sends sessions to OpenTelemetry backends, and receives spans."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lllm.cli.commands.otel_receive import receive
from lllm.cli.exit_codes import Finding
from lllm.cli.options import json_option, open_named, store_option

if TYPE_CHECKING:
    from lllm.otel.send_store import SendReport


@click.group()
def otel() -> None:
    """Send sessions to OpenTelemetry, or make sessions of its spans."""


otel.add_command(receive)


@otel.command()
@store_option
@click.option(
    "--endpoint",
    metavar="URL",
    help="The receiver, as http://127.0.0.1:4318.  [default: $OTEL_EXPORTER_OTLP_ENDPOINT]",
)
@click.option(
    "--file",
    "path",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Append OTLP in JSON to a file instead.",
)
@click.option(
    "--header",
    "headers",
    metavar="K=V",
    multiple=True,
    help="An HTTP header; K=@FILE reads its value from a file, which `ps` does not show.",
)
@click.option("--follow", is_flag=True, help="Go on, until Ctrl-C; a dead receiver is waited for.")
@click.option("--messages", is_flag=True, help="Send messages, tasks, arguments and results, too.")
@click.option("--no-logs", is_flag=True, help="Send spans alone, and no log records.")
@click.option("--name", metavar="NAME", help="Remember what was sent under this name.")
@click.option("--service-name", metavar="NAME", help="The service.name of the spans.")
@click.option("--again", is_flag=True, help="Begin at the start of the log, with the same ids.")
@click.option("--dry-run", is_flag=True, help="Send nothing; say how much would be sent.")
@json_option
def send(
    store: str | None,
    endpoint: str | None,
    path: Path | None,
    headers: Sequence[str],
    follow: bool,
    messages: bool,
    no_logs: bool,
    name: str | None,
    service_name: str | None,
    again: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Send the sessions that have ended since the last time.

    Later statements about sessions, such as scores, are sent, too. The store remembers what each
    receiver has. If a receiver can't be reached, it is tried again for a minute; the next
    `lllm otel send` continues from there. Running sessions are sent when they have ended. Headers
    can also be given in OTEL_EXPORTER_OTLP_HEADERS.
    """
    from lllm.otel.send_store import SendOptions, send_store
    from lllm.otel.settings import OtelExport
    from lllm.store.log_store import session_host

    if path is not None and (endpoint is not None or headers):
        raise click.UsageError("Either --file, or --endpoint and --header.")
    if dry_run and follow:
        raise click.UsageError("Either --dry-run or --follow.")
    settings = OtelExport(
        endpoint=endpoint, headers=_headers(headers), messages=messages, logs=not no_logs,
        name=name, service_name=service_name,
    )  # fmt: skip
    options = SendOptions(path=path, follow=follow, again=again, dry_run=dry_run)
    with open_named(store, on_error="raise") as opened:
        host = session_host(opened)
        report = send_store(host.log, host.rows, host.reader.catch_up, settings, options, _tell)
    if as_json:
        from msgspec.structs import asdict

        from lllm.cli.render.json_text import show_json
        from lllm.events.codec import encode

        show_json(encode(asdict(report)).decode())
    else:
        _print_report(report, dry_run=dry_run)
    if report.failure:
        raise Finding(f"Not all was sent: {report.failure}. The next time goes on from there.")
    if report.rejected:
        raise Finding(f"{report.rejected:,} records were refused, and are not sent again.")


@otel.command()
@store_option
@json_option
def status(store: str | None, as_json: bool) -> None:
    """Say what each receiver has of a store, and how far it is behind."""
    from lllm.cli.render.formats import counted
    from lllm.otel.sent_position import read_sent
    from lllm.store.log_store import session_host
    from lllm.terminal_safe import visible

    with open_named(store) as opened:
        found = session_host(opened).rows.ask(read_sent)
        head = opened.log.head()
    if as_json:
        from msgspec.structs import asdict

        from lllm.cli.render.json_text import show_json
        from lllm.events.codec import encode

        entries = [asdict(one) | {"behind": max(head - one.position, 0)} for one in found]
        show_json(encode(entries).decode())
        return
    if not found:
        raise Finding("Nothing of this store was sent yet.")
    for one in found:
        behind = max(head - one.position, 0)
        click.echo(
            f"{visible(one.name)}: {counted(one.spans, 'span')}, "
            f"{counted(one.logs, 'log record')} sent, {one.rejected:,} refused; "
            + (f"{counted(behind, 'position')} behind" if behind else "up to date")
        )


def _headers(given: Sequence[str]) -> dict[str, str]:
    """Parse --header options; no value is in an error."""
    found: dict[str, str] = {}
    for number, pair in enumerate(given, 1):
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise click.UsageError(f"--header number {number} is not KEY=VALUE.")
        if value.startswith("@"):
            value = Path(value[1:]).read_text().strip()
        found[name] = value
    return found


def _print_report(report: SendReport, *, dry_run: bool) -> None:
    from lllm.cli.render.formats import counted
    from lllm.terminal_safe import visible

    what = f"{counted(report.spans, 'span')} and {counted(report.logs, 'log record')}"
    verb = "To be sent" if dry_run else "Sent"
    click.echo(f"{verb} to {visible(report.to)}: {what}.")


def _tell(message: str) -> None:
    from lllm.terminal_safe import visible

    click.echo(f"lllm: {visible(message)}", err=True)
