"""`pgqueue monitoring`: prints what Prometheus and Grafana are to be given."""

from __future__ import annotations

from importlib.resources import files

import typer

monitoring = typer.Typer(help="Print the alert rules or the dashboard, to a file.", no_args_is_help=True)


@monitoring.command()
def alerts() -> None:
    """Print alert rules for Prometheus 2.42 and newer."""
    typer.echo(_read("alerts.yml"), nl=False)


@monitoring.command()
def dashboard() -> None:
    """Print a dashboard to be imported into Grafana."""
    typer.echo(_read("grafana.json"), nl=False)


def _read(name: str) -> str:
    return (files("pgqueue.metrics") / "monitoring" / name).read_text(encoding="utf-8")
