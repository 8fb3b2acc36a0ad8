"""`pgqueue monitoring`: prints the alert rules for Prometheus and the dashboard for Grafana."""

from __future__ import annotations

from importlib.resources import files

import typer

monitoring = typer.Typer(
    help="Print the alert rules or the Grafana dashboard to standard output.", no_args_is_help=True
)


@monitoring.command()
def alerts() -> None:
    """Print alert rules for Prometheus 2.42 or newer."""
    typer.echo(_read("alerts.yml"), nl=False)


@monitoring.command()
def dashboard() -> None:
    """Print a dashboard to import into Grafana."""
    typer.echo(_read("grafana.json"), nl=False)


def _read(name: str) -> str:
    return (files("pgqueue.metrics") / "monitoring" / name).read_text(encoding="utf-8")
