"""Whether a change costs plain jobs anything: another revision and this checkout, in turn, in one run.

`python benchmarks/compare.py REVISION` unpacks REVISION into a folder of its own and drives the pgqueue of
both with this checkout's own program, `plain_jobs.py`, in turn, on one server, each run on a new database. It
prints this checkout's figures as multiples of the other's: the median of the ratios of neighbouring runs,
with its 95 % interval, which the ranks of the ratios give whatever their distribution. Pairs are run until
every interval lies within 2 % of its median, or 20 of them.

Machines are noisy and become slower or faster meanwhile. Where the intervals of rates stay wide, those of
processor times decide: what else the machine has to do hardly changes them.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import math
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import common

Figures = dict[str, float]

HERE = Path(__file__).parents[1]
PROGRAM = Path(__file__).with_name("plain_jobs.py")
WITHIN = 0.02
"""Of its median an interval is to lie, on both sides."""


def main() -> None:
    """Read the command line, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("revision", help="what to compare with: a commit, a tag, a branch")
    parser.add_argument("--pairs", type=int, default=20, help="of runs, at most (%(default)s)")
    parser.add_argument("--jobs", type=int, default=50_000, help="jobs of each phase (%(default)s)")
    parser.add_argument("--singles", type=int, default=1000, help="jobs enqueued one by one (%(default)s)")
    parser.add_argument("--loop", choices=["uvloop", "asyncio"], default="uvloop")
    parser.add_argument("--dsn", help="the server to use; an embedded one if not given")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    options = parser.parse_args()

    arguments = [f"--jobs={options.jobs}", f"--singles={options.singles}", f"--loop={options.loop}"]
    pairs: list[tuple[Figures, Figures]] = []
    with checkout(options.revision) as other, common.server(options.dsn) as server:
        while len(pairs) < options.pairs and not all(is_narrow(each) for each in ratios(pairs).values()):
            # Each goes first as often as the other.
            first, second = (other, HERE) if len(pairs) % 2 else (HERE, other)
            ran = {place: run(place, server, arguments) for place in (first, second)}
            pairs.append((ran[other], ran[HERE]))
    if options.json:
        found = {"benchmark": "compare", "revision": options.revision, "ratios": ratios(pairs)}
        print(json.dumps(found))
        return
    print(f"this checkout over {options.revision}, {options.jobs:,} jobs a phase, {len(pairs)} pairs of runs")
    print(f"  {'':<32} {'median':>8}   {'95 %':<16}   before -> now")
    for name, values in ratios(pairs).items():
        low, high = interval(values)
        before, now = (statistics.median(pair[side][name] for pair in pairs) for side in (0, 1))
        spread = f"{low:.3f} to {high:.3f}"
        print(f"  {name:<32} {statistics.median(values):>8.3f}   {spread:<16}   {before:,.2f} -> {now:,.2f}")


def ratios(pairs: Sequence[tuple[Figures, Figures]]) -> dict[str, list[float]]:
    """Return, by figure, this checkout's as a multiple of the other's in each pair of runs."""
    names = pairs[0][0].keys() if pairs else {"nothing": 0.0}.keys()
    return {
        name: [now[name] / before[name] if before[name] else 1.0 for before, now in pairs] for name in names
    }


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % interval of the median of *values*: between two of them, by their ranks.

    How many values lie below the median is binomial, whatever their distribution. Of fewer than six values no
    two are far enough apart: then the interval has no ends.
    """
    ordered, count = sorted(values), len(values)
    for rank in range(count // 2, 0, -1):
        outside = 2 * sum(math.comb(count, below) for below in range(rank)) / 2**count
        if outside <= 0.05:
            return ordered[rank - 1], ordered[-rank]
    return -math.inf, math.inf


def is_narrow(values: Sequence[float]) -> bool:
    """Whether the interval of the median lies within 2 % of it."""
    if not values:
        return False
    low, high = interval(values)
    middle = statistics.median(values)
    return middle * (1 - WITHIN) <= low and high <= middle * (1 + WITHIN)


@contextmanager
def checkout(revision: str) -> Iterator[Path]:
    """Yield a folder with the files of *revision*."""
    with tempfile.TemporaryDirectory(prefix="pgqueue-compare-") as folder:
        packed = subprocess.run(
            ["git", "-C", str(HERE), "archive", "--format=tar", revision], capture_output=True, check=False
        )
        if packed.returncode:
            sys.exit(f"benchmark: nothing measured: {packed.stderr.decode().strip()}")
        with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as files:
            files.extractall(folder, filter="data")
        yield Path(folder)


def run(place: Path, server: str, arguments: list[str]) -> Figures:
    """Run the program with the pgqueue of the checkout in *place*; return its figures."""

    async def on_a_new_database() -> Figures:
        async with common.empty_database(server) as dsn:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, str(PROGRAM), f"--dsn={dsn}", *arguments),
                env={**os.environ, "PYTHONPATH": str(place)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            said, complained = await process.communicate()
        if process.returncode:
            sys.exit(f"benchmark: nothing measured in {place}: {complained.decode().strip()[-2000:]}")
        figures: Figures = json.loads(said)
        return figures

    return asyncio.run(on_a_new_database())


if __name__ == "__main__":
    main()
