"""Draws what benchmarks have printed: `python benchmarks/charts.py FOLDER` makes SVG files for the README.

FOLDER has files with what benchmarks print with `--json`, one object each, of whatever name; which chart is
made of which is said by the object itself. Draws what is there and says which charts it has made. Needs
matplotlib: `pip install 'pgqueue-asyncio[charts]'`.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from cycler import cycler
from matplotlib import pyplot as plt
from matplotlib.ticker import FuncFormatter

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Document = dict[str, Any]

HERE = Path(__file__).parent
OURS, OTHERS = "#2563eb", "#94a3b8"
LINES = ("#2563eb", "#d97706", "#059669", "#db2777", "#7c3aed", "#64748b", "#dc2626", "#0891b2")
STYLE: Any = {
    # Text stays text: small files, and the reader's own font. White behind it: readable on any page.
    "svg.fonttype": "none",
    "svg.hashsalt": "pgqueue",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Arial", "sans-serif"],
    "font.size": 10,
    "text.color": "#1f2937",
    "axes.edgecolor": "#9ca3af",
    "axes.labelcolor": "#374151",
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.titlepad": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.prop_cycle": cycler(color=LINES),
    "grid.color": "#e5e7eb",
    "xtick.color": "#4b5563",
    "ytick.color": "#374151",
    "legend.frameon": False,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.12,
    "figure.constrained_layout.h_pad": 0.12,
}


# Parts of charts


@contextmanager
def chart(file: Path, title: str, *, height: float = 3.4) -> Iterator[Axes]:
    """Yield axes to draw on; write them to *file*."""
    figure, axes = plt.subplots(figsize=(7.6, height))
    axes.set_title(title)
    yield axes
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)


def words_of(number: float) -> str:
    """Return a number as short as it can be read: 12,300, 1.5 M, 0.83."""
    if abs(number) >= 1e6:
        return f"{number / 1e6:,.3g} M"
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


def use_words(axis: Any) -> None:
    """Label an axis with numbers that can be read."""
    axis.set_major_formatter(FuncFormatter(lambda number, _: words_of(number)))


def bars(file: Path, title: str, unit: str, values: dict[str, float], *, more_is_better: bool = True) -> None:
    """Draw a bar each, the best on top, with its value."""
    ordered = sorted(values.items(), key=lambda item: item[1], reverse=more_is_better)
    names, numbers = [name for name, _ in ordered], [number for _, number in ordered]
    with chart(file, title, height=1.1 + 0.3 * len(ordered)) as axes:
        drawn = axes.barh(
            names,
            numbers,
            color=[OURS if name == "pgqueue" else OTHERS for name in names],
        )
        axes.bar_label(drawn, [words_of(number) for number in numbers], padding=4, color="#374151")
        axes.invert_yaxis()
        axes.margins(x=0.12)
        axes.set_xlabel(unit)
        use_words(axes.xaxis)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x")


def lines(
    file: Path, title: str, x: str, y: str, series: dict[str, list[list[float]]], *, marker: str = ""
) -> None:
    """Draw a line each, from zero on, named in a legend beside them if there are several."""
    with chart(file, title) as axes:
        for name, points in series.items():
            axes.plot([at for at, _ in points], [value for _, value in points], label=name, marker=marker)
        axes.set(xlabel=x, ylabel=y)
        axes.set_ylim(bottom=0)
        axes.set_xlim(left=0)
        for axis in (axes.xaxis, axes.yaxis):
            use_words(axis)
        axes.grid()
        if len(series) > 1:
            axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))


# What is drawn of which benchmark: each returns the charts that it has made


def draw_peers(document: Document, folder: Path) -> list[str]:
    """Draw drain, enqueue and pick-up by contestant."""
    wanted = {
        "drain": (r"drain.*jobs_per_s", "Drained by one worker process", "jobs/s", True),
        "enqueue": (r"enqueue.*jobs_per_s", "Enqueued in bulk", "jobs/s", True),
        "pickup": (
            r"pick_?up.*p50",
            "From the enqueue call to the handler's start, idle, median",
            "ms",
            False,
        ),
    }
    made = []
    for name, (pattern, title, unit, more_is_better) in wanted.items():
        values = {
            contestant: figures[figure]
            for contestant, peer in document["peers"].items()
            for figures in [peer["median"]]
            for figure in [next((each for each in figures if re.match(pattern, each)), None)]
            if figure is not None
        }
        if values:
            bars(folder / f"{name}.svg", title, unit, values, more_is_better=more_is_better)
            made.append(name)
    return made


def draw_horizon(document: Document, folder: Path) -> list[str]:
    """Draw the rate over time, a chart for each holder of a snapshot."""
    by_holder: dict[str, dict[str, list[list[float]]]] = {}
    for name, points in document["series"].items():
        contestant, _, holder = name.partition("/")
        by_holder.setdefault(holder or "none", {})[contestant] = points
    made = []
    for holder, series in by_holder.items():
        name = "horizon-" + re.sub(r"\W+", "-", holder)
        lines(
            folder / f"{name}.svg",
            f"Insert, claim and finish; held meanwhile: {holder}",
            "seconds",
            "jobs/s",
            series,
        )
        made.append(name)
    return made


def draw_backlog(document: Document, folder: Path) -> list[str]:
    """Draw the rate of each case as a share of the smallest backlog's."""
    values = {
        case_of(name.removesuffix("_to_smallest")): value
        for name, value in document["median"].items()
        if name.endswith("_to_smallest")
    }
    with chart(
        folder / "backlog.svg",
        "Rate of one worker; 1: with the smallest backlog",
        height=1.1 + 0.3 * len(values),
    ) as axes:
        drawn = axes.barh(list(values), list(values.values()), color=OURS)
        axes.bar_label(drawn, [f"{value:.2f}" for value in values.values()], padding=4, color="#374151")
        axes.axvline(1, color="#4b5563", linewidth=1)
        axes.invert_yaxis()
        axes.margins(x=0.12)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x")
    return ["backlog"]


def case_of(name: str) -> str:
    """Return the name of a backlog's case in words: `pending_1000000` is `1 M pending`."""
    kind, _, rest = name.partition("_")
    number, _, more = rest.partition("_")
    size = words_of(float(number)) if number.isdecimal() else number
    return " ".join(filter(None, [size, kind, more.replace("_", " ") and f"({more.replace('_', ' ')})"]))


def draw_fleet(document: Document, folder: Path) -> list[str]:
    """Draw the total rate over the number of processes."""
    points = [[cell["processes"], cell["jobs_per_s"]] for cell in document["cells"]]
    title = f"Total rate of worker processes on one database; {document['machine']['cores']} cores for all"
    lines(folder / "fleet.svg", title, "worker processes", "jobs/s", {"total": points}, marker="o")
    return ["fleet"]


def draw_matrix(document: Document, folder: Path) -> list[str]:
    """Draw the rate over concurrency, a line for each handler and number of processes."""
    series: dict[str, list[list[float]]] = {}
    for cell in document["cells"]:
        name = f"{cell['handler']}, {cell['processes']} process{'es' if cell['processes'] > 1 else ''}"
        series.setdefault(name, []).append([cell["concurrency"], cell["jobs_per_s"]])
    title = "Drained, by handler, worker processes and concurrency"
    lines(folder / "throughput.svg", title, "concurrency of each process", "jobs/s", series, marker="o")
    return ["throughput"]


def draw_soak(document: Document, folder: Path) -> list[str]:
    """Draw the worker's memory over jobs, and its rate over time."""
    series = document["series"]
    memory = {"worker": series["resident_mib"]}
    lines(folder / "soak-memory.svg", "Resident memory of one worker process", "jobs done", "MiB", memory)
    rate = {"worker": series["jobs_per_s"]}
    lines(
        folder / "soak-rate.svg",
        "Rate of one worker process, enqueueing beside it",
        "seconds",
        "jobs/s",
        rate,
    )
    return ["soak-memory", "soak-rate"]


DRAW: dict[str, Callable[[Document, Path], list[str]]] = {
    "peers": draw_peers,
    "horizon": draw_horizon,
    "backlog": draw_backlog,
    "fleet": draw_fleet,
    "throughput matrix": draw_matrix,
    "soak": draw_soak,
}
"""By what the benchmark says of itself before the first colon."""


def main() -> None:
    """Read the command line and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the JSON is")
    parser.add_argument("--into", type=Path, default=HERE / "charts", help="(%(default)s)")
    options = parser.parse_args()
    options.into.mkdir(parents=True, exist_ok=True)
    mpl.use("svg")
    made: list[str] = []
    with mpl.rc_context(STYLE):
        for file in sorted(options.folder.glob("*.json")):
            try:
                document = json.loads(file.read_text(encoding="utf-8"))
                kind = document["benchmark"].partition(":")[0]
            except (ValueError, KeyError, TypeError):
                sys.exit(f"charts: {file} is not what a benchmark prints with --json")
            if draw := DRAW.get(kind):
                try:
                    made += draw(document, options.into)
                except (KeyError, ValueError) as error:
                    print(f"charts: {file} lacks what its chart is drawn of: {error!r}", file=sys.stderr)
    if not made:
        sys.exit(f"charts: nothing drawn: no JSON of {', '.join(DRAW)} in {options.folder}")
    print("\n".join(str(options.into / f"{name}.svg") for name in made))


if __name__ == "__main__":
    main()
