"""The command line: scenarios alone, all that have bars, or faults at random for a time."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from faults.figures import Report, Size, document, recorded, table
from faults.mixed import run_mixed
from faults.scenarios import SCENARIOS

FIGURES = ("kill", "freeze", "restart", "supervisor", "pooler")
"""Scenarios that have bars, and take what the machine has."""
WAITING = ("silence", "host", "login")
"""Scenarios that have bars, and wait for most of their time: they run at once."""
FAULTS_WANTED = 1000
RECORD = Path(__file__).with_name("figures.json")
"""What the docs say of the last full run."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; return 1 if anything was violated or a bar was missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--minutes", type=float, help="faults at random for so long")
    parser.add_argument("--faults", type=int, help="faults at random until there were so many")
    parser.add_argument("--seed", type=int, help="what is done at random (default: another each time)")
    parser.add_argument("--only", help=f"scenarios, separated by commas: {','.join(SCENARIOS)}")
    parser.add_argument("--size", choices=["short", "full"], default="full", help="how long scenarios take")
    parser.add_argument("--at-once", type=int, default=1, help="scenarios that run at once")
    parser.add_argument("--figures", action="store_true", help="what has bars, with the table of them")
    parser.add_argument("--keep", type=Path, help="a folder for the records and logs of the mixed run")
    parser.add_argument("--record", action="store_true", help=f"write the figures to {RECORD.name}")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    names = [name for name in (options.only or "").split(",") if name]
    if unknown := set(names) - SCENARIOS.keys():
        parser.error(f"there is no scenario {', '.join(sorted(unknown))}")
    if not names and options.minutes is None and options.faults is None and not options.figures:
        parser.error("say what to run: --minutes, --faults, --only or --figures")
    # Told to end, it ends what it has started, as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    seed = int(time.time()) if options.seed is None else options.seed
    reports = asyncio.run(_run(options, names, seed))
    print(json.dumps(document(reports), indent=2) if options.json else table(reports))
    if options.record:
        RECORD.write_text(json.dumps(recorded(reports, seed), indent=2, ensure_ascii=False) + "\n")
    return _verdict(reports)


async def _run(options: argparse.Namespace, names: Sequence[str], seed: int) -> list[Report]:
    reports = await _run_scenarios(names, options.size, options.at_once)
    if options.figures:
        reports += await _run_scenarios(FIGURES, "full", 1)
        reports += await _run_scenarios(WAITING, "full", len(WAITING))
    faults = FAULTS_WANTED if options.figures and options.faults is None else options.faults
    if options.minutes is not None or faults is not None:
        _tell(f"mixed run, seed {seed}")
        reports.append(await run_mixed(seed, minutes=options.minutes, faults=faults, keep=options.keep))
        _tell_report(reports[-1])
    return reports


async def _run_scenarios(names: Sequence[str], size: Size, at_once: int) -> list[Report]:
    turns = asyncio.Semaphore(at_once)

    async def run(name: str) -> Report:
        async with turns:
            began = time.monotonic()
            try:
                report = await SCENARIOS[name](size)
            except Exception:
                report = Report(name, violations=[f"the scenario broke: {traceback.format_exc()}"])
            report.seconds = round(time.monotonic() - began, 1)
            _tell_report(report)
            return report

    return await asyncio.gather(*map(run, names))


def _tell_report(report: Report) -> None:
    _tell(f"{report.scenario}: {report.seconds} s, {json.dumps(report.counts)}")
    for violation in report.violations:
        _tell(f"  VIOLATED: {violation}")


def _verdict(reports: Sequence[Report]) -> int:
    violations = sum(len(report.violations) for report in reports)
    missed = [
        f"{report.scenario}: {figure.name}"
        for report in reports
        for figure in report.figures
        if figure.holds is False
    ]
    if violations or missed:
        _tell(f"NOT WELL: {violations} violations; bars missed: {', '.join(missed) or 'none'}")
        return 1
    _tell("all is well: no violation, no bar missed")
    return 0


def _tell(text: str) -> None:
    """Say how it goes, beside what is printed for programs."""
    print(text, file=sys.stderr, flush=True)
