"""The command `lllm schema`: prints the tables of a log in PostgreSQL."""

from __future__ import annotations

import click


@click.command()
@click.option("--postgres", is_flag=True, required=True, help="Of a log in PostgreSQL.")
@click.option("--schema", "name", metavar="NAME", help="The schema of the log; it is 'lllm'.")
def schema(postgres: bool, name: str | None) -> None:
    """Print the SQL that makes the tables of a log.

    lllm makes them itself at the first use, if its role may. Otherwise an
    administrator runs this, and then grants roles what the last lines say:

    \b
      lllm schema --postgres | psql -d logs
    """
    del postgres  # the one kind of log that has a schema
    from lllm.events.backends.postgres.schema import ddl, grants
    from lllm.events.backends.postgres.server_url import SCHEMA

    click.echo(ddl(name or SCHEMA))
    for line in grants(name or SCHEMA).splitlines():
        click.echo(f"-- {line}".rstrip())
