"""Whether a change costs plain jobs anything: another revision and this checkout, in turn, in one run.

`python benchmarks/compare.py REVISION` unpacks REVISION into a folder of its own, has each of the two run
its own `throughput.py` again and again in turn, and prints this one's figures as multiples of the other's.
Machines are noisy and become slower or faster meanwhile: the ratio of neighbouring runs says more than the
figures, and that of processor times more than that of rates.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

Figures = dict[str, float]

HERE = Path(__file__).parents[1]


def main() -> None:
    """Read the command line, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("revision", help="what to compare with: a commit, a tag, a branch")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each (%(default)s)")
    parser.add_argument("--jobs", type=int, default=50_000, help="jobs in one run (%(default)s)")
    parser.add_argument("--loop", choices=["uvloop", "asyncio"], default="uvloop")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    options = parser.parse_args()

    arguments = ["--rounds=1", "--json", f"--jobs={options.jobs}", f"--loop={options.loop}"]
    pairs: list[tuple[Figures, Figures]] = []
    with checkout(options.revision) as other:
        for number in range(options.rounds):
            # Each goes first as often as the other.
            first, second = (other, HERE) if number % 2 else (HERE, other)
            ran = {place: throughput(place, arguments) for place in (first, second)}
            pairs.append((ran[other], ran[HERE]))
    names = pairs[0][0].keys() & pairs[0][1].keys()
    ratios = {name: [now[name] / before[name] for before, now in pairs] for name in sorted(names)}
    if options.json:
        print(json.dumps({"benchmark": "compare", "revision": options.revision, "ratios": ratios}))
        return
    print(f"this checkout over {options.revision}, {options.jobs:,} jobs, {options.rounds} pairs of runs")
    for name, values in ratios.items():
        spread = f"{min(values):.3f} to {max(values):.3f}"
        print(f"  {name:<34} {statistics.median(values):>8.3f}   ({spread})")


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


def throughput(place: Path, arguments: list[str]) -> Figures:
    """Run the throughput benchmark of the checkout in *place*; return its figures."""
    done = subprocess.run(
        [sys.executable, str(place / "benchmarks" / "throughput.py"), *arguments],
        env={**os.environ, "PYTHONPATH": str(place)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"benchmark: nothing measured in {place}: {done.stderr.strip()[-2000:]}")
    figures: Figures = json.loads(done.stdout)["median"]
    return figures


if __name__ == "__main__":
    main()
