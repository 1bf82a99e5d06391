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
def schema(postgres: bool, name: str | None, partition_by: str | None) -> None:
    """Print the SQL that makes the tables of a log.

    lllm makes the tables itself at the first use, if its role is allowed to. Otherwise an
    administrator runs this SQL, and then grants the roles what its last lines list:

    \b
      lllm schema --postgres | psql -d logs
    """
    del postgres  # the one kind of log that has a schema
    from lllm.events.backends.postgres.schema import ddl, grants
    from lllm.events.backends.postgres.server_url import SCHEMA

    click.echo(ddl(name or SCHEMA, partition_by))
    for line in grants(name or SCHEMA).splitlines():
        click.echo(f"-- {line}".rstrip())
