"""`pgqueue demo`: a folder in, every file read."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import anyio
import pytest
from kit import inside
from kit.waiting import eventually

from pgqueue import PgQueue
from pgqueue.cli.commands.demo import BLOCK, Report, Screen, read_file, read_folder
from pgqueue.cli.output import plain
from pgqueue.cli.running.found_files import SAMPLES, find_files, listed
from pgqueue.cli.running.shop import QUEUES

KEYS = {"enqueued", "succeeded", "failed", "seconds", "jobs_per_s", "pickup_ms_p50", "pickup_ms_p95"}


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "pgqueue", "demo", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )


async def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    stdout, stderr = await asyncio.to_thread(process.communicate, timeout=180)
    return process.returncode, stdout, stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with three files, one with a name in no encoding, and four things that are not files."""
    folder = tmp_path / "folder"
    (folder / "below").mkdir(parents=True)
    (folder / "a.txt").write_text("one two\nthree\n")
    (folder / "below" / "[b].txt").write_text("")
    Path(os.fsdecode(bytes(folder) + b"/\xff\n.bin")).write_bytes(b"\0")
    (folder / "round").symlink_to(folder)
    (folder / "dangling").symlink_to(folder / "nowhere")
    (folder / "link.txt").symlink_to(folder / "a.txt")
    os.mkfifo(folder / "pipe")
    return folder


@pytest.mark.contract("P8.1")
async def test_every_file_is_read_in_a_job_of_its_own_and_counted_in_one_json_object(folder: Path) -> None:
    code, stdout, stderr = await ended(start(folder, "--json"))

    report = json.loads(stdout)
    assert code == 0
    assert report.keys() == KEYS
    assert (report["enqueued"], report["succeeded"], report["failed"]) == (4, 4, 0)
    assert report["seconds"] > 0
    assert report["jobs_per_s"] > 0
    assert 0 < report["pickup_ms_p50"] <= report["pickup_ms_p95"]
    assert "skipped: 3\n" in stderr
    assert f"{folder}/pipe: not a regular file" in stderr


async def test_without_json_a_reader_gets_a_summary(folder: Path, tmp_path: Path) -> None:
    code, stdout, _ = await ended(start(tmp_path, str(folder), "--data", str(tmp_path / "data")))

    assert code == 0
    assert "4 jobs, 4 succeeded, 0 failed, in " in stdout
    assert re.search(r"pick-up: p50 [\d.]+ m?s, p95 [\d.]+ m?s", stdout)
    assert re.search(r"http://127\.0\.0\.1:\d+/dashboard/\n", stdout)
    assert (tmp_path / "data" / "PG_VERSION").read_text() == "18\n"


@pytest.mark.contract("P8.1")
async def test_an_empty_folder_is_no_error_and_has_work_all_the_same(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()

    code, stdout, stderr = await ended(start(empty, "--json"))

    report = json.loads(stdout)
    assert code == 0
    assert (report["enqueued"], report["succeeded"]) == (SAMPLES, SAMPLES)
    assert stderr.splitlines()[:2] == [
        "there are no files here; reading files that are made for this",
        "starting an embedded PostgreSQL server ...",
    ]
    assert list(empty.iterdir()) == []


@pytest.mark.contract("P8.1")
async def test_it_stays_with_something_of_everything_until_ctrl_c_if_it_is_told_to(tmp_path: Path) -> None:
    process = start(tmp_path, "--keep")
    assert process.stdout is not None

    printed = ""
    while "Ctrl-C" not in printed:
        line = await asyncio.to_thread(process.stdout.readline)
        assert line, await ended(process)
        printed += line
    address = re.search(r"http://[\d.:]+", printed)
    assert address is not None

    async def shown(path: str) -> Any:
        with await asyncio.to_thread(urlopen, f"{address[0]}{path}") as response:
            return json.loads(response.read())

    async def is_all_there() -> bool:
        pages = [await shown(f"/jobs?limit=100&queue={queue}") for queue in QUEUES]
        jobs = [job for page in pages for job in page["jobs"]]
        return (
            {"charge", "send_receipt", "count_sales", "check_stock"} <= {job["task"] for job in jobs}
            and any(job["attempt"] > 1 for job in jobs)
            and any(job["progress"] for job in jobs)
        )

    await eventually(is_all_there)
    assert {each["queue"] for each in (await shown("/queues"))["queues"]} >= {"orders", "mail", "catalog"}
    os.killpg(process.pid, signal.SIGINT)
    os.killpg(process.pid, signal.SIGTERM)
    code, _, stderr = await ended(process)

    assert code == 0
    assert len(stderr.splitlines()) == 3


async def test_what_goes_on_until_ctrl_c_prints_no_object(tmp_path: Path) -> None:
    code, _, stderr = await ended(start(tmp_path, "--keep", "--json"))

    assert code == 2
    assert "leave out" in stderr


async def test_the_status_is_served_while_it_runs_and_ctrl_c_ends_it_with_a_summary(tmp_path: Path) -> None:
    # Reading a sparse file takes its time, and can be interrupted: it is read in blocks.
    big = tmp_path / "folder" / "big"
    big.parent.mkdir()
    with big.open("wb") as file:
        file.truncate(20 * 1024**3)
    process = start(big.parent)
    assert process.stdout is not None

    first_line = await asyncio.to_thread(process.stdout.readline)
    address = re.search(r"http://[\d.:]+", first_line)
    assert address is not None
    with await asyncio.to_thread(urlopen, f"{address[0]}/readyz") as response:
        ready = json.loads(response.read())
    # As a terminal does: the signal goes to the whole process group. The second cuts the grace short.
    os.killpg(process.pid, signal.SIGINT)
    os.killpg(process.pid, signal.SIGTERM)
    code, stdout, stderr = await ended(process)

    assert ready == {"status": "ready"}
    assert code == 130
    assert "interrupted: 1 files had been found" in stderr
    assert "1 jobs, 0 succeeded, 0 failed" in stdout
    assert "Traceback" not in stderr


async def test_a_file_that_cannot_be_read_is_a_failed_job_and_named(dsn: str, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("...")
    gone, folder = tmp_path / "gone", tmp_path / "folder"
    folder.mkdir()
    # What cannot be read is what has gone, or changed, since it was listed.
    files = [os.fsencode(path) for path in (gone, tmp_path / "there", folder)]

    with Screen(3, quiet=True) as screen:
        report = await read_folder(dsn, files, concurrency=2, screen=screen)

    assert (report.enqueued, report.succeeded, report.failed, report.is_complete) == (3, 1, 2, True)
    assert sorted(report.failures) == [
        f"{folder}: IsADirectoryError: [Errno 21] Is a directory: '{folder}'",
        f"{gone}: FileNotFoundError: [Errno 2] No such file or directory: '{gone}'",
    ]
    assert "failed: 2\n" in report.as_text() + "\n"
    async with PgQueue(dsn) as pgq, inside.database(pgq).acquire() as connection:
        assert await connection.fetchval("select max(attempt) from pgqueue.jobs") == 1


async def test_more_files_than_fit_at_once_are_all_read(dsn: str, tmp_path: Path) -> None:
    for number in range(50):
        (tmp_path / str(number)).write_text("x")

    with Screen(50, quiet=True) as screen, anyio.fail_after(60):
        report = await read_folder(dsn, find_files(tmp_path).files, concurrency=2, screen=screen)

    assert (report.enqueued, report.succeeded) == (50, 50)


def test_the_task_counts_as_wc_does(tmp_path: Path) -> None:
    # A word over the edge of a block is one word, and one that ends there is not lost.
    content = b"a " * (BLOCK // 2 - 1) + b" over the edge\n" + b"b" * (BLOCK - 2) + b"\nlast"
    path = tmp_path / "file"
    path.write_bytes(content)

    facts = read_file(bytes(path))

    assert facts.size == len(content)
    assert facts.lines == content.count(b"\n")
    assert facts.words == len(content.split())
    assert facts.sha256 == hashlib.sha256(content).hexdigest()


def test_regular_files_and_links_to_them_are_found_and_nothing_is_skipped_in_silence(folder: Path) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "PG_VERSION").write_text("18\n")

    found = find_files(folder, without=folder / "data")

    here = bytes(folder)
    assert sorted(found.files) == [
        here + b"/a.txt",
        here + b"/below/[b].txt",
        here + b"/link.txt",
        here + b"/\xff\n.bin",
    ]
    assert sorted(found.skipped) == [
        f"{folder}/dangling: No such file or directory",
        f"{folder}/data: the demo's own database",
        f"{folder}/pipe: not a regular file",
        f"{folder}/round: a link to a folder",
    ]


def test_names_are_printed_without_what_a_terminal_obeys() -> None:
    name = os.fsdecode(b"\x1b[31m\xff\n\xc3\xa9")

    assert plain(name) == "\\x1b[31m\\udcff\\n\u00e9"


def test_long_lists_say_how_much_more_there_is() -> None:
    lines = listed("failed", [str(number) for number in range(50)], 120)

    assert lines[0] == "failed: 120"
    assert lines[-1] == "  ... and 70 more"
    assert listed("failed", [], 0) == []


def test_pick_up_times_are_by_nearest_rank() -> None:
    waits = [number / 1000 for number in range(1, 21)]
    report = Report(enqueued=20, succeeded=20, failed=0, seconds=2.0, waits=waits, failures=[])

    assert json.loads(report.as_json()) == {
        "enqueued": 20,
        "succeeded": 20,
        "failed": 0,
        "seconds": 2.0,
        "jobs_per_s": 10.0,
        "pickup_ms_p50": 10.0,
        "pickup_ms_p95": 19.0,
    }
