"""What scenarios measured, beside the bars that it must reach."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

Size = Literal["short", "full"]
"""How long a scenario takes: as short as it says something, or as long as its figures need."""


@dataclass(frozen=True)
class Figure:
    """One number."""

    name: str
    value: float | None
    """None: there was nothing to measure."""
    unit: str = ""
    bar: float | None = None
    """What it must reach: at most this, or at least (`is_least`). None: nothing is asked of it."""
    is_least: bool = False

    @property
    def holds(self) -> bool | None:
        """Whether it reaches its bar; None: it has none."""
        if self.bar is None:
            return None
        if self.value is None:
            return False
        return self.value >= self.bar if self.is_least else self.value <= self.bar


@dataclass
class Report:
    """What a scenario came to."""

    scenario: str
    figures: list[Figure] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    counts: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    impossible: str | None = None
    """Why it cannot be run on this machine."""


def document(reports: Sequence[Report]) -> list[dict[str, Any]]:
    """Return the reports as JSON values."""
    return [
        vars(report) | {"figures": [asdict(figure) | {"holds": figure.holds} for figure in report.figures]}
        for report in reports
    ]


def recorded(reports: Sequence[Report], seed: int) -> dict[str, Any]:
    """Return what the docs tell of a full run: the figures that have bars."""
    rows = [
        {
            "fault": f"{TITLES.get(report.scenario, report.scenario)}: {figure.name}",
            "bar": _bar(figure),
            "measured": _measured(figure),
            "of": _sample(report),
        }
        for report in reports
        for figure in report.figures
        if figure.bar is not None
    ]
    return {
        "rows": rows,
        "when": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} processors, Python {platform.python_version()}",
        "seed": seed,
        "minutes": round(sum(report.seconds for report in reports) / 60),
    }


TITLES = {
    "kill": "SIGKILL of a worker where another lives",
    "freeze": "SIGSTOP beyond the lease, then SIGCONT",
    "restart": "server restart under load",
    "silence": "silent death of all connections",
    "host": "hung or frozen first host",
    "login": "login refused for 60 s",
    "supervisor": "SIGKILL of a supervisor's children",
    "pooler": "SIGKILL of a worker behind a pooler",
    "mixed": "faults at random",
}
"""What the docs call scenarios."""


def _sample(report: Report) -> str:
    faults = report.counts.get("faults")
    if faults:
        return f"{sum(faults.values())} faults, {report.counts.get('jobs', 0)} jobs"
    return f"{report.counts.get('jobs', 0)} jobs"


def table(reports: Sequence[Report]) -> str:
    """Return the figures, in columns, and what was violated."""
    rows = [("fault", "figure", "measured", "bar", "")]
    for report in reports:
        for figure in report.figures:
            sign = {None: "", True: "holds", False: "MISSED"}[figure.holds]
            rows.append((report.scenario, figure.name, _measured(figure), _bar(figure), sign))
        if report.impossible:
            rows.append((report.scenario, f"cannot be run here: {report.impossible}", "", "", ""))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def _bar(figure: Figure) -> str:
    if figure.bar is None:
        return ""
    return f"at {'least' if figure.is_least else 'most'} {_number(figure.bar)} {figure.unit}".strip()


def _measured(figure: Figure) -> str:
    return "none" if figure.value is None else f"{_number(figure.value)} {figure.unit}".strip()


def _number(value: float) -> str:
    return f"{value:.0f}" if value == int(value) else f"{value:.2f}"
