"""`pgqueue roles`: prints the SQL for roles that may enqueue, receive, work or read, and nothing else."""

from __future__ import annotations

from typing import Annotated

import typer

from pgqueue.cli.parameters import Schema
from pgqueue.database.sql import load_roles


def roles(
    schema: Schema = "pgqueue",
    prefix: Annotated[
        str | None,
        typer.Option(help="What the names of the roles begin with (default: the schema's name)."),
    ] = None,
) -> None:
    """Print the SQL that makes four roles: PREFIX_enqueue, PREFIX_receive, PREFIX_worker and PREFIX_read.

    Changes nothing: pass the output to psql, as the owner of the schema. Run it again after each migration.
    """
    typer.echo(load_roles(schema, schema if prefix is None else prefix), nl=False)
