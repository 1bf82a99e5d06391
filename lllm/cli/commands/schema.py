"""The command `lllm schema`: prints the tables of a log in PostgreSQL."""

from __future__ import annotations

import click


@click.command()
@click.option(
    "--postgres", is_flag=True, required=True, help="Print the tables of a log in PostgreSQL."
)
@click.option("--schema", "name", metavar="NAME", help="The schema of the log.  [default: lllm]")
@click.option(
    "--partition-by",
    type=click.Choice(["month"]),
    help="Make the table of payloads with a partition for each month.",
)
@click.option("--rows", is_flag=True, help="Print what lllm makes for lists and sums instead.")
@click.option("--jsonb", is_flag=True, help="With --rows: print also the payloads as jsonb.")
def schema(
    postgres: bool, name: str | None, partition_by: str | None, rows: bool, jsonb: bool
) -> None:
    """Print the SQL that makes the tables of a log.

    lllm makes the tables itself at the first use, if its role is allowed to. Otherwise an
    administrator runs this SQL, and then grants the roles what its last lines list:

    \b
      lllm schema --postgres | psql -d logs

    --rows prints the tables and views of lists, costs and searches. It is for reading: only the
    role that made them can rebuild them, so lllm makes them itself.
    """
    del postgres  # the one kind of log that has a schema
    if rows:
        _print_rows(jsonb=jsonb)
        return
    if jsonb:
        raise click.UsageError("--jsonb belongs to --rows.")
    from lllm.events.backends.postgres.schema import ddl, grants
    from lllm.events.backends.postgres.server_url import SCHEMA

    click.echo(ddl(name or SCHEMA, partition_by))
    for line in grants(name or SCHEMA).splitlines():
        click.echo(f"-- {line}".rstrip())


def _print_rows(*, jsonb: bool) -> None:
    from lllm.projections.engine.postgres.row_script import row_statements
    from lllm.projections.views.messages import MessagesView
    from lllm.projections.views.payloads import PayloadsView
    from lllm.store.read_model import own_views

    payloads = (PayloadsView(),) if jsonb else ()
    for statement in row_statements((*own_views(), *payloads, MessagesView())):
        click.echo(f"{statement};")
