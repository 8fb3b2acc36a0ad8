"""The same chord and chain through pgqueue and through others that compose jobs, in turn.

For each contestant and round: a new database, or a new Redis; one worker process, which a small chord or
chain brings up; then the one that counts.

* `chord_members_per_s`: members, by the time from the call that submits the chord to the start of its body.
* `chord_submit_ms`: that call. What submits by a job of its own (DBOS) returns before anything is submitted.
* `chord_body_ms`: from the last member's start to the body's.
* `chain_link_ms_p50`, `chain_link_ms_mean`: from one link's start to the next one's.
* `chain_submit_ms`: the call that submits the chain.

Chord and chain stand for themselves: a contestant may fail in one of them. Every run checks that each member,
body and link ran exactly once. awa has neither, and oban's workflows are not free. The programs are in
`contestants/`; each says what was tuned, and what its chord lacks.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from functools import partial
from itertools import pairwise
from pathlib import Path

import common
import peers
from contest import Board, Settings
from peers import Contest, Peer, Program, chosen, fresh_server, running
from workflow_contest import WARM_UP

_SAME = {peer.name: peer for peer in peers.PEERS}


def _as_in_peers(name: str) -> Peer:
    """Return a contestant with the library that peers.py has, in the same environment."""
    peer = _SAME[name]
    program = peer.program.replace("with_", "workflows_")
    return Peer(name, program, peer.server, peer.requirements, peer.packages, peer.python)


PEERS = [
    *map(_as_in_peers, ("pgqueue", "celery", "dramatiq")),
    Peer(
        "dbos",
        "workflows_dbos.py",
        "postgresql",
        ("dbos==3.4.0", "uvloop"),
        ("dbos", "sqlalchemy", "psycopg"),
    ),
]

CHORD_BAR = 5.0
"""Times the fastest peer's members a second."""
CHAIN_BAR = 1.0
"""Times Celery's link, at most."""


async def run_one(
    peer: Peer, python: Path, *, shape: str, postgresql: str, jobs: int, loop: str
) -> tuple[float, float, list[float]]:
    """Run a chord or a chain once; return when its call began and ended, and when each job started."""
    warm = WARM_UP + (shape == "chord")
    with tempfile.TemporaryDirectory(prefix="pgqueue-peers-") as folder:
        async with fresh_server(peer, postgresql) as url:
            file = Path(folder) / "board"
            settings = Settings(url, str(file), warm + jobs, loop)
            program = Program(peer, python, settings, Path(folder) / "log")
            board = Board.create(file, warm + jobs)
            await program.prepare()
            async with (
                running(await program.start("work")) as worker,
                running(await program.start(shape)) as client,
            ):
                await peers.all_ran(program, worker, board)
                answer = await program.answer(client)
            if twice := sum(runs > 1 for runs in board.runs):
                raise program.failure(f"{twice} jobs ran more than once")
            assert isinstance(answer, list)
            return answer[0], answer[1], list(board.started[warm:])


async def measure_chord(
    peer: Peer, python: Path, *, postgresql: str, members: int, loop: str
) -> common.Figures:
    """Run a chord."""
    called, returned, starts = await run_one(
        peer, python, shape="chord", postgresql=postgresql, jobs=members + 1, loop=loop
    )
    *of_members, of_body = starts
    return {
        "chord_members_per_s": members / (of_body - called),
        "chord_submit_ms": (returned - called) * 1000,
        "chord_body_ms": (of_body - max(of_members)) * 1000,
    }


async def measure_chain(
    peer: Peer, python: Path, *, postgresql: str, links: int, loop: str
) -> common.Figures:
    """Run a chain."""
    called, returned, starts = await run_one(
        peer, python, shape="chain", postgresql=postgresql, jobs=links, loop=loop
    )
    steps = [(later - earlier) * 1000 for earlier, later in pairwise(starts)]
    return {
        "chain_link_ms_p50": statistics.median(steps),
        "chain_link_ms_mean": statistics.mean(steps),
        "chain_submit_ms": (returned - called) * 1000,
    }


def ratios(chords: Contest, chains: Contest) -> dict[str, float]:
    """Return what is to be compared, as far as it was measured."""
    found = {}
    rates = {name: each["chord_members_per_s"] for name, each in chords.medians().items()}
    ours = rates.pop("pgqueue", None)
    if ours is not None and rates:
        found["chord_to_fastest_peer"] = ours / max(rates.values())
    links = {name: each["chain_link_ms_p50"] for name, each in chains.medians().items()}
    if links.keys() >= {"pgqueue", "celery"}:
        found["link_to_celery"] = links["pgqueue"] / links["celery"]
    return found


def command_line() -> argparse.Namespace:
    """Read the command line."""
    parser = common.arguments(__doc__)
    parser.add_argument("--members", type=int, default=10_000, help="of the chord (%(default)s)")
    parser.add_argument("--links", type=int, default=1000, help="of the chain (%(default)s)")
    parser.add_argument("--only", help="names of contestants, with commas; each of them has to succeed")
    parser.add_argument("--quick", action="store_true", help="go through everything in a tiny size, once")
    parser.add_argument(
        "--environments", type=Path, help="where their environments are kept; a temporary folder if not given"
    )
    if parser.parse_args().quick:
        parser.set_defaults(members=100, links=20, rounds=1)
    return parser.parse_args()


async def benchmark(options: argparse.Namespace, environments: Path) -> tuple[Contest, Contest]:
    """Measure, and report."""
    contestants = chosen(PEERS, options.only)
    chords, chains = Contest(contestants), Contest(contestants)
    with common.server(options.dsn) as postgresql:
        machine = await peers.describe(postgresql, options.loop, contestants)
        where = {"postgresql": postgresql, "loop": options.loop}
        for contest in (chords, chains):
            contest.install(environments)
        for number in range(options.rounds):
            await chords.one_round(number, partial(measure_chord, members=options.members, **where))
            await chains.one_round(number, partial(measure_chain, links=options.links, **where))
    report(options, machine, chords, chains)
    return chords, chains


def report(options: argparse.Namespace, machine: dict[str, object], chords: Contest, chains: Contest) -> None:
    """Print the contestants' figures, and the ratios beside their bars."""
    what = f"workflow peers: a chord of {options.members:,}, a chain of {options.links:,}, one worker process"
    found = ratios(chords, chains)
    if options.json:
        parts = {"chord": chords.document(), "chain": chains.document()}
        print(json.dumps({"benchmark": what, "machine": machine, "ratios": found, **parts}))
        return
    print(what)
    print("  on " + ", ".join(f"{name} {value}" for name, value in machine.items()))
    for contest in (chords, chains):
        contest.print_figures()
    bars = {"chord_to_fastest_peer": f"at least {CHORD_BAR:g}", "link_to_celery": f"at most {CHAIN_BAR:g}"}
    for name, ratio in found.items():
        print(f"  {name:<34} {ratio:>12,.2f}   bar: {bars[name]}")


def main() -> None:
    """Read the command line, measure, and fail if one that was named did."""
    options = command_line()

    async def run() -> None:
        with tempfile.TemporaryDirectory(prefix="pgqueue-environments-") as folder:
            try:
                contests = await benchmark(options, (options.environments or Path(folder)).resolve())
            except peers.ServerMissingError as error:
                sys.exit(f"benchmark: nothing measured: {error}")
        failed = sorted({name for contest in contests for name in contest.failures})
        if failed and (options.only or not any(contest.figures() for contest in contests)):
            sys.exit(f"benchmark: not measured: {', '.join(failed)}")

    # Contestants run on the loop that was asked for; this only watches them.
    common.run("asyncio", run)


if __name__ == "__main__":
    main()
