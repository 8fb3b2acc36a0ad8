"""The same work through pgqueue and through its peers, each in its own environment, in turn.

For each contestant and round: a new database, or a new Redis; all jobs enqueued by its bulk API; one worker
process that drains them; an idle worker process that picks up one job after the other.

* `enqueue_jobs_per_s`: from plain arguments to the return of the last call.
* `drain_jobs_per_s`: from the first handler's start until every outcome was seen in the server. The clock
  that handlers read is the machine's monotonic one, as everywhere here; starting a worker is not part of
  it.
* `handlers_jobs_per_s`: the same until the last handler's end.
* `pickup_ms_p50`, `pickup_ms_p99`: enqueue call to handler start.

Every run checks that each job ran exactly once and that every outcome was kept. The programs are in
`contestants/`; each says what was tuned, and why.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import asyncpg
import common
from contest import WARM_UP, Board, Settings
from environments import EnvironmentFailedError, environment

STALLED = 60.0
"""Seconds without a job run, an outcome kept or an answer given, after which a contestant has failed."""

STOP_WITHIN = 20.0
"""Seconds that a worker has to end when told to."""

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Peer:
    """A contestant."""

    name: str
    program: str
    """Its file in contestants/."""
    server: str
    """postgresql or redis."""
    requirements: tuple[str, ...] = ()
    """What its environment gets; none means this one."""
    packages: tuple[str, ...] = ()
    """Packages whose versions are worth printing."""
    python: tuple[int, int] = (3, 11)
    """The oldest Python that it runs on."""

    @property
    def environment(self) -> str:
        """Its folder among the environments: the library's, whatever the program does with it."""
        return "with_" + self.program.removesuffix(".py").partition("_")[2]


_SAQ = ("saq[hiredis,postgres,redis]==0.26.4", "psycopg[binary]", "uvloop")
_SAQ_PACKAGES = ("saq", "psycopg", "redis", "uvloop")

PEERS = [
    Peer("pgqueue", "with_pgqueue.py", "postgresql", packages=("asyncpg", "uvloop")),
    Peer(
        "pgqueuer",
        "with_pgqueuer.py",
        "postgresql",
        ("pgqueuer==1.6.0", "asyncpg", "uvloop"),
        ("pgqueuer", "asyncpg", "uvloop"),
    ),
    Peer(
        "procrastinate",
        "with_procrastinate.py",
        "postgresql",
        ("procrastinate==3.10.0", "psycopg[binary]", "uvloop"),
        ("procrastinate", "psycopg", "uvloop"),
    ),
    Peer("oban", "with_oban.py", "postgresql", ("oban==0.7.0",), ("oban", "psycopg", "uvloop"), (3, 12)),
    Peer("awa", "with_awa.py", "postgresql", ("awa-pg==0.6.9", "uvloop"), ("awa-pg", "uvloop")),
    Peer("saq-postgresql", "with_saq.py", "postgresql", _SAQ, _SAQ_PACKAGES),
    Peer("saq-redis", "with_saq.py", "redis", _SAQ, _SAQ_PACKAGES),
    Peer("arq", "with_arq.py", "redis", ("arq==0.28.0", "hiredis", "uvloop"), ("arq", "redis", "uvloop")),
    Peer("streaq", "with_streaq.py", "redis", ("streaq==7.2.0", "uvloop"), ("streaq", "coredis", "uvloop")),
    Peer(
        "celery", "with_celery.py", "redis", ("celery[redis]==5.7.0", "hiredis"), ("celery", "kombu", "redis")
    ),
    Peer(
        "dramatiq", "with_dramatiq.py", "redis", ("dramatiq[redis]==2.2.1", "hiredis"), ("dramatiq", "redis")
    ),
    Peer("rq", "with_rq.py", "redis", ("rq==3.0.0", "hiredis"), ("rq", "redis")),
]


class ContestantFailedError(Exception):
    """A contestant did not do the work: the message says how."""


class ServerMissingError(Exception):
    """A server that was asked for is not to be had: nothing was measured."""


@dataclass(frozen=True)
class Program:
    """A contestant's program, and where it says what went wrong."""

    peer: Peer
    python: Path
    settings: Settings
    log: Path

    async def start(self, role: str, *, settings: Settings | None = None) -> Process:
        """Start it in *role*, as the leader of its own process group."""
        path = [
            str(HERE),
            *([os.environ["PYTHONPATH"]] if own(self.peer) and "PYTHONPATH" in os.environ else []),
        ]
        with self.log.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                self.python,
                str(HERE / "contestants" / self.peer.program),
                role,
                stdin=DEVNULL,
                stdout=log if role == "work" else PIPE,
                stderr=log,
                cwd=HERE / "contestants",
                env={
                    **{name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
                    "PYTHONPATH": os.pathsep.join(path),
                    "PYTHONDONTWRITEBYTECODE": "1",
                    **(settings or self.settings).environment(),
                },
                start_new_session=True,
                limit=2**26,
            )

    async def answer(self, process: Process) -> object:
        """Return what it says next."""
        assert process.stdout is not None
        if not (line := await process.stdout.readline()):
            raise self.failure(f"it ended with {await process.wait()}")
        return json.loads(line)

    async def prepare(self) -> None:
        """Have it make its schema."""
        await self.ask("prepare")

    async def ask(self, role: str) -> object:
        """Run it in *role* until it answers."""
        async with running(await self.start(role)) as process:
            return await self.answer(process)

    def failure(self, what: str) -> ContestantFailedError:
        """Say what happened and what it said last."""
        said = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        # A warning may come last, at the interpreter's end.
        words = [line.strip() for line in said if "Warning" not in line] or ["none"]
        return ContestantFailedError(f"{what}; its last words: {words[-1]}")


def own(peer: Peer) -> bool:
    """Tell whether it runs in this environment, with this checkout."""
    return not peer.requirements


@asynccontextmanager
async def running(process: Process) -> AsyncIterator[Process]:
    """Have *process* run while the context lasts; end it and what it started afterwards."""
    try:
        yield process
    finally:
        if process.returncode is None:
            # To the leader alone, as a service manager does it: it stops its children.
            process.terminate()
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), STOP_WITHIN)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


@asynccontextmanager
async def redis_server() -> AsyncIterator[str]:
    """Run a Redis of one's own, which writes an append-only file and syncs it every second; yield its URL."""
    if (binary := shutil.which("redis-server")) is None:
        raise ServerMissingError("redis-server is not installed; run `apt-get install redis-server`")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="pgqueue-redis-") as folder:
        settings = ["--bind", "127.0.0.1", "--appendonly", "yes", "--appendfsync", "everysec"]
        process = await asyncio.create_subprocess_exec(
            *[binary, "--port", str(port), "--dir", folder, *settings], stdout=DEVNULL, stderr=DEVNULL
        )
        async with running(process):
            await _answers(process, port)
            yield f"redis://127.0.0.1:{port}/0"


async def _answers(process: Process, port: int) -> None:
    deadline = time.monotonic() + STALLED
    while True:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"PING\r\n")
            pong = await reader.readline()
            writer.close()
            if pong == b"+PONG\r\n":
                return
        if process.returncode is not None or time.monotonic() > deadline:
            raise ServerMissingError("redis-server does not start")
        await asyncio.sleep(0.02)


@asynccontextmanager
async def fresh_server(peer: Peer, postgresql: str) -> AsyncIterator[str]:
    """Yield the URL of a new database or a new Redis."""
    if peer.server == "redis":
        async with redis_server() as url:
            yield url
    else:
        async with common.empty_database(postgresql) as dsn:
            yield dsn


async def measure(
    peer: Peer, python: Path, postgresql: str, *, jobs: int, pings: int, loop: str
) -> common.Figures:
    """Run one contestant once."""
    with tempfile.TemporaryDirectory(prefix="pgqueue-peers-") as folder:
        async with fresh_server(peer, postgresql) as url:
            file = Path(folder) / "board"
            program = Program(peer, python, Settings(url, str(file), jobs, loop), Path(folder) / "log")
            board = Board.create(file, jobs)
            await program.prepare()
            enqueue_seconds = await program.ask("enqueue")
            assert isinstance(enqueue_seconds, float)
            if peer.server == "postgresql":
                await settle(url)
            drain_seconds = await drain(program, board)
            handlers_seconds = max(board.started) - min(board.started)
            pickups = await pick_up(program, pings)
    return {
        "enqueue_jobs_per_s": jobs / enqueue_seconds,
        "drain_jobs_per_s": jobs / drain_seconds,
        "handlers_jobs_per_s": jobs / handlers_seconds,
        "pickup_ms_p50": common.percentile(pickups, 0.5) * 1000,
        "pickup_ms_p99": common.percentile(pickups, 0.99) * 1000,
    }


async def settle(dsn: str) -> None:
    """Have every drain start from the same state of the tables."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("vacuum analyze")
        await connection.execute("checkpoint")
    finally:
        await connection.close()


async def drain(program: Program, board: Board) -> float:
    """Have a worker run what is enqueued; return the seconds from the first handler to the last outcome."""
    async with running(await program.start("watch")) as watch:
        await program.answer(watch)
        async with running(await program.start("work")) as worker:
            await all_ran(program, worker, board)
            try:
                seen = await asyncio.wait_for(program.answer(watch), STALLED)
            except TimeoutError:
                raise program.failure("not every outcome was kept") from None
    if twice := sum(runs > 1 for runs in board.runs):
        raise program.failure(f"{twice} jobs ran more than once")
    assert isinstance(seen, float)
    return seen - min(board.started)


async def all_ran(program: Program, worker: Process, board: Board) -> None:
    """Wait until every job ran."""
    left, since = board.unrun(), time.monotonic()
    while left:
        await asyncio.sleep(0.02)
        if worker.returncode is not None:
            raise program.failure(f"its worker ended with {worker.returncode}, {left} jobs did not run")
        if (now := board.unrun()) < left:
            left, since = now, time.monotonic()
        elif time.monotonic() - since > STALLED:
            raise program.failure(f"{left} jobs did not run")


async def pick_up(program: Program, pings: int) -> Sequence[float]:
    """Have an idle worker run one job after the other; return seconds from enqueue call to handler start."""
    jobs = WARM_UP + pings
    file = Path(program.settings.board).with_name("pings")
    board = Board.create(file, jobs)
    pinged = replace(program, settings=replace(program.settings, board=str(file), jobs=jobs))
    async with running(await pinged.start("work")) as worker, running(await pinged.start("ping")) as client:
        await all_ran(pinged, worker, board)
        pickups = await asyncio.wait_for(pinged.answer(client), STALLED)
    if twice := sum(runs > 1 for runs in board.runs):
        raise pinged.failure(f"{twice} jobs ran more than once")
    assert isinstance(pickups, list)
    return pickups


def versions(peer: Peer, python: Path) -> dict[str, str]:
    """Return the versions of Python and the packages that matter in an environment."""
    program = (
        "import json, sys; from importlib.metadata import version; from platform import python_version; "
        "print(json.dumps({'python': python_version(), **{name: version(name) for name in sys.argv[1:]}}))"
    )
    done = subprocess.run([python, "-c", program, *peer.packages], capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


class Contest:
    """What came of it, by contestant."""

    def __init__(self, peers: Sequence[Peer]) -> None:
        self.peers = peers
        self.pythons: dict[str, Path] = {}
        self.versions: dict[str, dict[str, str]] = {}
        self.rounds: dict[str, list[common.Figures]] = {peer.name: [] for peer in peers}
        self.failures: dict[str, str] = {}

    def install(self, environments: Path) -> None:
        """Make each contestant's environment, where there is none."""
        for peer in self.peers:
            folder = environments / peer.environment
            try:
                python = (
                    environment(folder, peer.requirements, python=peer.python)
                    if peer.requirements
                    else Path(sys.executable)
                )
            except EnvironmentFailedError as error:
                self.failures[peer.name] = f"it cannot be installed: {error}"
            else:
                self.pythons[peer.name] = python
                self.versions[peer.name] = versions(peer, python)

    async def one_round(
        self, number: int, measured: Callable[[Peer, Path], Awaitable[common.Figures]]
    ) -> None:
        """Have each contestant *measured* once; each has another place in each round."""
        first = number % len(self.peers)
        for peer in [*self.peers[first:], *self.peers[:first]]:
            if peer.name in self.failures:
                continue
            print(f"benchmark: round {number + 1}: {peer.name}", file=sys.stderr, flush=True)
            try:
                figures = await measured(peer, self.pythons[peer.name])
            except ContestantFailedError as error:
                # One that fails once has no figures at all: a median of what went well would flatter.
                self.failures[peer.name] = str(error)
            else:
                self.rounds[peer.name].append(figures)

    def figures(self) -> dict[str, list[common.Figures]]:
        """Return the rounds of those that did not fail."""
        return {name: rounds for name, rounds in self.rounds.items() if name not in self.failures}

    def medians(self) -> dict[str, common.Figures]:
        """Return the median of each figure of those that did not fail."""
        return {name: common.medians(rounds) for name, rounds in self.figures().items()}

    def document(self) -> dict[str, object]:
        """Return everything, as it is printed as JSON."""
        medians = self.medians()
        return {
            "peers": {
                name: {"versions": self.versions[name], "median": medians[name], "rounds": rounds}
                for name, rounds in self.figures().items()
            },
            "failed": self.failures,
        }

    def report(self, what: str, machine: dict[str, object], *, as_json: bool) -> None:
        """Print the median and the spread of each contestant's figures."""
        if as_json:
            print(json.dumps({"benchmark": what, "machine": machine, **self.document()}))
            return
        print(what)
        print("  on " + ", ".join(f"{name} {value}" for name, value in machine.items()))
        self.print_figures()

    def print_figures(self) -> None:
        """Print each figure, the best contestant first; then versions, and what failed."""
        medians = self.medians()
        for figure in next(iter(medians.values()), {}):
            print(f"\n  {figure}")
            higher_is_better = "_ms" not in figure
            best = sorted(medians, key=lambda name: medians[name][figure], reverse=higher_is_better)
            for name in best:
                values = [each[figure] for each in self.rounds[name]]
                spread = f"{min(values):,.2f} to {max(values):,.2f}, {len(values)} rounds"
                print(f"    {name:<18} {medians[name][figure]:>12,.2f}   ({spread})")
        print()
        for name in medians:
            print(f"  {name}: " + ", ".join(f"{package} {it}" for package, it in self.versions[name].items()))
        for name, why in self.failures.items():
            print(f"  {name}: NOT MEASURED: {why}")


def chosen(peers: list[Peer], names: str | None) -> list[Peer]:
    """Return the contestants that are named, all of them if none is."""
    if names is None:
        return peers
    known = {peer.name: peer for peer in peers}
    if unknown := set(names.split(",")) - known.keys():
        sys.exit(f"benchmark: no such peer: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return [known[name] for name in names.split(",")]


def command_line() -> argparse.Namespace:
    """Read the command line."""
    parser = common.arguments(__doc__)
    parser.add_argument("--jobs", type=int, default=20_000, help="jobs that are drained (%(default)s)")
    parser.add_argument("--pings", type=int, default=200, help="jobs whose pick-up is timed (%(default)s)")
    parser.add_argument("--only", help="names of contestants, with commas; each of them has to succeed")
    parser.add_argument(
        "--environments", type=Path, help="where their environments are kept; a temporary folder if not given"
    )
    return parser.parse_args()


def redis_version() -> str:
    """Return the version of the Redis that is installed."""
    asked = subprocess.run(["redis-server", "--version"], capture_output=True, text=True, check=True)
    return asked.stdout.split("v=")[-1].split()[0]


async def describe(postgresql: str, loop: str, peers: Sequence[Peer]) -> dict[str, object]:
    """Return what was measured on, Redis included if any of *peers* needs it."""
    machine = await common.describe(postgresql, loop)
    if any(peer.server == "redis" for peer in peers):
        async with redis_server():
            machine["redis"] = f"{redis_version()}, appendonly, appendfsync everysec"
    return machine


async def benchmark(options: argparse.Namespace, environments: Path) -> Contest:
    """Measure, and report."""
    contest = Contest(chosen(PEERS, options.only))
    with common.server(options.dsn) as postgresql:
        machine = await describe(postgresql, options.loop, contest.peers)
        contest.install(environments)
        for number in range(options.rounds):
            await contest.one_round(
                number,
                lambda peer, python: measure(
                    *(peer, python, postgresql), jobs=options.jobs, pings=options.pings, loop=options.loop
                ),
            )
    what = (
        f"peers: {options.jobs:,} no-op jobs with three arguments, one worker process, concurrency 100; "
        f"{options.pings} jobs one at a time, idle worker"
    )
    contest.report(what, machine, as_json=options.json)
    return contest


def main() -> None:
    """Read the command line, measure, and fail if one that was named did."""
    options = command_line()

    async def run() -> None:
        with tempfile.TemporaryDirectory(prefix="pgqueue-environments-") as folder:
            try:
                contest = await benchmark(options, (options.environments or Path(folder)).resolve())
            except ServerMissingError as error:
                sys.exit(f"benchmark: nothing measured: {error}")
        if contest.failures and (options.only or not contest.figures()):
            sys.exit(f"benchmark: not measured: {', '.join(contest.failures)}")

    # Contestants run on the loop that was asked for; this only watches them.
    common.run("asyncio", run)


if __name__ == "__main__":
    main()
