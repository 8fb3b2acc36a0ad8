"""An upgrade rehearsal: code of earlier schemas works while the schema is migrated and new workers join it.

The earlier code comes from the history of this checkout: for each migration the last commit before it, since
schema 7. The old workers go on, one of each kind is killed and rescued by the other, and an old worker is
started on the new schema, as after a downgrade.
"""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
import tempfile
import traceback
from contextlib import suppress
from pathlib import Path

import asyncpg
from kit.waiting import eventually

from faults.figures import Figure, Report, Size
from faults.laboratory import LIVE_JOBS
from faults.processes import TESTS, Surroundings
from faults.servers import ROLE, TABLES, LaboratoryServer, laboratory_server
from pgqueue import PgQueue

FIRST = 7
PROJECT = TESTS.parent
DONE = "select count(*) from public.ledger"
AMISS = """
    select count(*) from unnest($1::uuid[]) as given (id)
    where (select count(*) from public.ledger where job_id = given.id) <> 1
       or (select status from pgqueue.job where job.id = given.id) is distinct from 'succeeded'
"""


def points() -> dict[int, str]:
    """Return the last commit at each schema since the first, as far as this checkout knows its history.

    Without those whose migrations were edited later: nobody has such a schema, because none was released.
    """
    found: dict[int, str] = {}
    newer, today = "HEAD", _migrations("HEAD")
    for commit in [*_git("rev-list", "--first-parent", "HEAD", "--", "sql/migrations").split(), ""]:
        then = _migrations(newer)
        if len(then) < FIRST:
            break
        # Where one is missing, another branch had taken its number.
        is_whole = [number for number, _ in then] == list(range(1, len(then) + 1))
        if is_whole and then[FIRST:] == today[FIRST : len(then)]:
            found.setdefault(len(then), newer)
        newer = f"{commit}^"
    return dict(sorted(found.items()))


def _migrations(commit: str) -> list[tuple[int, str]]:
    """Return the number of each migration of a commit, and what git calls its content."""
    listed = re.findall(r"blob (\w+)\tsql/migrations/(\d{4})_", _git("ls-tree", commit, "sql/migrations/"))
    return sorted((int(number), content) for content, number in listed)


def _git(*arguments: str) -> str:
    ended = subprocess.run(["git", *arguments], cwd=PROJECT, capture_output=True, text=True, check=False)
    return ended.stdout if ended.returncode == 0 else ""


async def run(size: Size) -> Report:
    """Rehearse from the first schema, or from each in turn: for an hour, and whatever becomes of one."""
    known = points()
    if FIRST not in known:
        return Report("upgrade", impossible="this checkout has no history back to schema 7")
    chosen = list(known)[:-1] if size == "full" else [FIRST]
    made = Report("upgrade")
    refused = 0
    async with laboratory_server() as server:
        for version in chosen:
            with tempfile.TemporaryDirectory(prefix="pgqueue-upgrade-") as folder:
                try:
                    found, away = await _rehearse(server, version, known[version], Path(folder))
                except Exception:
                    # The next ones say something all the same.
                    found, away = [f"the rehearsal broke: {traceback.format_exc()}"], 0
            made.violations += [f"from schema {version}: {each}" for each in found]
            refused += away
            # The whole takes long.
            sys.stderr.write(f"upgrade from schema {version}: {'; '.join(found) or 'well'}\n")
    made.figures = [
        Figure("schemas upgraded from", len(chosen)),
        Figure("calls refused meanwhile", refused),
        Figure("violations", len(made.violations), bar=0),
    ]
    return made


async def _rehearse(
    server: LaboratoryServer, version: int, commit: str, folder: Path
) -> tuple[list[str], int]:
    """Return what was violated on the way to the newest schema, and how many calls were refused."""
    await asyncio.to_thread(_unpack, commit, folder)
    admin = await asyncpg.connect(server.dsn)
    await admin.execute(f"drop database {ROLE} with (force)")
    await admin.execute(f"create database {ROLE} owner {ROLE}")
    # Before schema 8 a role had to be a superuser.
    await admin.execute(f"alter role {ROLE} superuser")
    await admin.close()
    surroundings = Surroundings(server.program_dsn, folder)
    old = {"PYTHONPATH": f"{folder}:{TESTS}"}
    worker = ("-m", "pgqueue", "worker", "faults.rehearsed:pgq", "--concurrency", "10", "--lease-ttl", "6")
    migrate = await surroundings.start(
        "migrate", "-m", "pgqueue", "migrate", "--dsn", server.program_dsn, **old
    )
    assert await migrate.wait() == 0, (folder / "migrate.log").read_text()
    admin = await asyncpg.connect(server.database_dsn)
    await admin.execute(TABLES)
    await admin.close()
    olds = [await surroundings.start(f"old-{number}", *worker, **old) for number in range(2)]
    calls = [await surroundings.start("calls-old", "-m", "faults.rehearsed", **old)]
    news = []

    async def until_done(more: int) -> None:
        [before] = await server.query(DONE)

        async def is_done() -> bool:
            [row] = await server.query(DONE)
            return int(row[0]) >= int(before[0]) + more

        await eventually(is_done, within=90)

    problems = []
    try:
        await until_done(30)
        await PgQueue(server.program_dsn).migrate()
        await until_done(60)
        news = [await surroundings.start(f"new-{number}", *worker) for number in range(2)]
        calls.append(await surroundings.start("calls-new", "-m", "faults.rehearsed"))
        await until_done(150)
        olds[0].kill()
        news[0].kill()
        olds.append(await surroundings.start("old-again", *worker, **old))
        await until_done(150)
        for each in calls:
            each.terminate()
        codes = [await each.wait() for each in calls]

        async def has_ended() -> bool:
            [row] = await server.query(LIVE_JOBS)
            return not row[0]

        ended = [each.returncode for each in (olds[1], olds[2], news[1])]
        if ended != [None] * 3 or not {*codes} <= {0, -signal.SIGTERM}:
            problems.append(f"processes ended: workers {ended}, callers {codes}")
        # The upgrade is over. What old workers have ended of a limit or a workflow, which they do not know,
        # sweeps find within two minutes.
        for each in olds[1:]:
            each.terminate()
            await each.wait()
        await eventually(has_ended, within=180)
    except TimeoutError:
        problems.append(f"it stood still: {[each.returncode for each in (*olds, *news, *calls)]}")
    finally:
        for each in (*calls, *olds, *news):
            with suppress(ProcessLookupError):
                each.kill()
            await each.wait()
    lines = _noted(folder)
    ids = [job for line in lines if not line.startswith("refused") for job in line.split()]
    [row] = await server.query(AMISS, ids)
    if row[0]:
        problems.append(f"{row[0]} of {len(ids)} acknowledged jobs were lost, or did not end once")
    return problems, sum(line.startswith("refused") for line in lines)


def _unpack(commit: str, folder: Path) -> None:
    """Have the code of *commit* in *folder*."""
    command = ["git", "archive", commit, "pgqueue", "sql"]
    archive = subprocess.run(command, cwd=PROJECT, capture_output=True, check=True)
    subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)


def _noted(folder: Path) -> list[str]:
    """Return what callers have noted."""
    return [line for path in folder.glob("*.acknowledged") for line in path.read_text().splitlines()]
