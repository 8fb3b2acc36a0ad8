"""Django's Tasks framework on pgqueue: its own in Django 6, the package of it before.

Settings of Django are global, so all of it runs in processes of its own: the scenes of kit/django_site in
one.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from kit.waiting import eventually

from pgqueue import JobStatus, PgQueue
from pgqueue.testing.databases import Databases, with_database

TESTS = Path(__file__).parents[1]
SCENES = re.findall(r"^def (test_\w+)\(", (TESTS / "kit/django_site/scenes.py").read_text(), re.MULTILINE)


def environment(dsn: str, **more: str) -> dict[str, str]:
    return {
        **os.environ,
        "PGQUEUE_TEST_DSN": dsn,
        "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)]),
        "DJANGO_SETTINGS_MODULE": "kit.django_site.settings",
        **more,
    }


def run(dsn: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment(dsn, **more),
        cwd=TESTS,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("1", id="with_time_zones"),
        pytest.param("0", id="without", marks=pytest.mark.any_server),
    ],
)
def outcomes(request: pytest.FixtureRequest, databases: Databases, server: str) -> dict[str, Any]:
    """What each scene came to, in a project of its own."""
    dsn = databases.make_empty()
    # Django makes databases of its own for tests, so it is a superuser.
    django = with_database(server, urlsplit(dsn).path[1:])
    ran = run(django, "-m", "kit.django_site", PGQUEUE_TEST_USE_TZ=request.param)
    databases.drop(dsn)
    assert ran.returncode == 0, ran.stderr
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return found


@pytest.mark.contract("P1.3")
@pytest.mark.parametrize("scene", SCENES)
def test_a_scene_of_a_project(scene: str, outcomes: dict[str, Any]) -> None:
    assert outcomes[scene] is None, outcomes[scene]


@pytest.mark.contract("P1.3", "P2.11")
async def test_its_worker_is_a_command_and_a_killed_one_loses_no_task(empty_dsn: str, tmp_path: Path) -> None:
    enqueue = (
        "import django; django.setup(); from kit.django_site.shop.tasks import sleep, add;"
        "print(sleep.enqueue(1).id, add.enqueue(1, 2).id)"
    )
    migrated = run(empty_dsn, "-m", "django", "migrate", "--run-syncdb")
    again = run(empty_dsn, "-m", "django", "pgqueue_migrate")
    jobs = run(empty_dsn, "-c", enqueue).stdout.split()
    command = [sys.executable, "-m", "django", "pgqueue_worker", "--backend", "default", "--lease-ttl", "1"]

    async with PgQueue(empty_dsn) as pgq:
        with started(command, empty_dsn, tmp_path / "first") as first:
            await eventually(lambda: has_status(pgq, jobs[0], "running"))
            first.kill()
        with started(command, empty_dsn, tmp_path / "second") as second:
            await eventually(lambda: has_status(pgq, jobs[0], "succeeded"))
            await eventually(lambda: has_status(pgq, jobs[1], "succeeded"))
            second.terminate()
            code = await asyncio.to_thread(second.wait, 180)
        results = [(await pgq.get(job)).result for job in jobs]

    assert "migrations of pgqueue to schema 'pgqueue'" in migrated.stdout, migrated.stderr
    assert again.stdout == "schema 'pgqueue' is up to date\n", again.stderr
    assert results == [None, 3]
    assert code == 0, (tmp_path / "second").read_text()


@contextmanager
def started(command: list[str], dsn: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("w") as stderr:
        process = subprocess.Popen(command, env=environment(dsn), cwd=TESTS, stderr=stderr)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


async def has_status(pgq: PgQueue, job: str, status: str) -> bool:
    return (await pgq.get(job)).status is JobStatus(status)


def test_a_worker_of_a_backend_that_is_not_there_says_so(empty_dsn: str) -> None:
    ran = run(empty_dsn, "-m", "django", "pgqueue_worker", "--backend=nowhere")
    wrong = run(empty_dsn, "-m", "django", "pgqueue_worker", "--concurrency=many")

    assert ran.returncode != 0
    assert "nowhere" in ran.stderr.strip().splitlines()[-1]
    assert wrong.returncode == 2
