"""Makes reference/metrics.md: every metric with its kind, labels and help text, from their declarations."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pgqueue.metrics.declared import OF_A_PROCESS, OF_THE_DATABASE, Declaration

PAGE = Path(__file__).parents[1] / "reference" / "metrics.md"

HEAD = """# Metrics

Every metric that pgqueue exports to Prometheus. [Monitor](../how-to/monitor.md) says where to scrape them and
describes the alerts and the dashboard. This page is made from the code by `python docs/generate`.
"""
PROCESS = """
## Of a process

These are counted from the events of the scraped process. `pgqueue worker` adds up those of all its processes.

"""
DATABASE = """
## Of the database

These are read from the database, and are the same wherever they are scraped: take `max by (queue)`, not a sum
over instances.

"""


def page() -> str:
    """Return the page."""
    return HEAD + PROCESS + _table(OF_A_PROCESS) + DATABASE + _table(OF_THE_DATABASE)


def _table(metrics: Iterable[Declaration]) -> str:
    rows = (
        f"| `{each.name}` | {each.kind} | {', '.join(each.labels)} | {each.help_text} |\n" for each in metrics
    )
    return "| metric | kind | labels | |\n|---|---|---|---|\n" + "".join(rows)


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
