"""The command `lllm otel receive`: makes sessions of what OpenTelemetry exporters send."""

from __future__ import annotations

from pathlib import Path

import click

from lllm.cli.commands.web import missing_extra
from lllm.cli.options import store_location, store_option
from lllm.events.backends.location import shown_location
from lllm.events.errors import ConfigError


@click.command()
@store_option
@click.option("--port", type=click.IntRange(0, 65535), metavar="PORT", default=4318,
              show_default=True, help="The port; 0 for any free one.")  # fmt: skip
@click.option("--host", metavar="ADDRESS", default="127.0.0.1", show_default=True,
              help="An address of this machine: 127.0.0.1, ::1 or localhost.")  # fmt: skip
@click.option("--idle", type=click.FloatRange(1), metavar="SECONDS", default=600,
              show_default=True,
              help="Silence after which a trace is written though its root is missing.",
              )  # fmt: skip
@click.option("--spool", "spool_path", metavar="FILE", type=click.Path(path_type=Path),
              help="Where requests wait.  [default: beside the store]")  # fmt: skip
def receive(store: str | None, port: int, host: str, idle: float, spool_path: Path | None) -> None:
    """Receive spans and log records, and make sessions of them. Ctrl-C ends it.

    Set OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 and OTEL_EXPORTER_OTLP_PROTOCOL to
    http/protobuf in the program that exports. A request is acknowledged when it is on disk. A trace
    becomes a session some seconds after its root came. The server listens on this machine only. It
    needs the extras web and otel: pip install 'lllm[web,otel]'.
    """
    try:
        from lllm.importing.otlp.receiver_app import listen, make_app
        from lllm.web.server import make_server
    except ImportError as error:
        raise missing_extra("lllm otel receive", error) from error
    from lllm.cli.render.formats import counted
    from lllm.importing.otlp.decode_protobuf import require_protobuf
    from lllm.importing.otlp.receiver import OtlpReceiver
    from lllm.importing.otlp.spool import Spool
    from lllm.store.log_store import LogStore

    require_protobuf()
    location = store_location(store)
    path = spool_path or _beside(location)
    with LogStore.open(location, on_error="raise") as opened, listen(host, port) as sock:
        is_power = getattr(opened.backend, "durability", "process") == "power"
        spool = Spool(path, power=is_power)
        try:
            receiver = OtlpReceiver(opened, spool, idle=idle)
            receiver.start()
            shown = f"[{host}]" if ":" in host else host
            number = sock.getsockname()[1]
            click.echo(
                f"http://{shown}:{number} receives OTLP for "
                f"{shown_location(opened.backend, location)}. Ctrl-C ends it."
            )
            try:
                make_server(make_app(receiver, shown, number)).run(sockets=[sock])
            except KeyboardInterrupt:  # uvicorn raises it again when it has ended
                pass
            finally:
                found = receiver.stop()
            click.echo(
                f"Received {counted(found.spans, 'new span')} and "
                f"{counted(found.logs, 'log record')}: {counted(found.sessions, 'session')}, "
                f"{counted(found.events, 'event')}."
            )
            if receiver.waiting:
                click.echo(
                    f"{counted(receiver.waiting, 'trace')} without a root wait in {path} for the "
                    "next time."
                )
        finally:
            spool.close()


def _beside(location: str) -> Path:
    """Find the file for requests beside a store."""
    if "://" in location:
        raise ConfigError(
            "This store is no file or folder, so say where requests are to wait on disk, with "
            "--spool FILE."
        )
    path = Path(location)
    return path.with_name(f"{path.name}-otlp")
