"""The supervisor of several worker processes: what it does when they end, cannot start, or are stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from kit.processes import lines_of
from kit.waiting import eventually

from pgqueue.processes import supervisor as supervising
from pgqueue.processes.supervisor import Supervisor

pytestmark = pytest.mark.contract("W11")

NOTE = "import os, signal, sys, time; print(os.getpid(), file=open(sys.argv[1], 'a'));"
ENDS: dict[str, tuple[str, str]] = {
    "by an error": ("sys.exit(3)", "ended with exit code 3"),
    "by a signal": ("os.kill(os.getpid(), signal.SIGKILL)", "ended with signal SIGKILL"),
    "by a signal without a name": ("os.kill(os.getpid(), 40)", "ended with signal 40"),
}


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have what ended started again at once, and then only after a long time."""
    for pauses in ("RESTART_PAUSES", "KILLED_PAUSES", "ALONE_PAUSES", "KILLED_ALONE_PAUSES"):
        monkeypatch.setattr(supervising, pauses, (0.01, 0.01, 600.0))


@asynccontextmanager
async def running(supervisor: Supervisor) -> AsyncIterator[asyncio.Future[bool]]:
    """Run *supervisor* inside the block; what is left is stopped at the end."""
    run = asyncio.ensure_future(supervisor.run())
    try:
        yield run
    finally:
        while not run.done():
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.wait((run,), timeout=0.5)


def has_started(sign: Path, times: int) -> Callable[[], Awaitable[bool]]:
    async def has() -> bool:
        return await asyncio.to_thread(lambda: len(lines_of(sign)) >= times)

    return has


async def stopped(run: asyncio.Future[bool], signals: int = 1) -> bool:
    for _ in range(signals):
        os.kill(os.getpid(), signal.SIGTERM)
    with anyio.fail_after(60):
        return await run


@pytest.mark.parametrize("how", ENDS)
async def test_a_process_that_ends_by_an_error_is_started_anew_and_the_end_is_no_success(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    sign = tmp_path / "sign"
    program, said = ENDS[how]

    async with running(Supervisor([sys.executable, "-c", NOTE + program, str(sign)], 1)) as run:
        await eventually(has_started(sign, 3))
        # It waits for long now: nothing of it runs when the signal comes.
        await eventually(logged(caplog, "starting another in 600 s"))
        assert await stopped(run) is False

    assert caplog.text.count(said) == 3


async def test_a_process_that_cannot_be_started_ends_no_other_and_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervising, "RESTART_PAUSES", (0.05,))
    sign, program = tmp_path / "sign", tmp_path / "worker"
    program.symlink_to(sys.executable)
    command = [str(program), "-c", NOTE + "time.sleep(600)", str(sign)]

    async with running(Supervisor(command, 2)) as run:
        await eventually(has_started(sign, 2))
        [ended, other] = map(int, lines_of(sign))
        # As while the package is being installed anew.
        program.unlink()
        os.kill(ended, signal.SIGKILL)
        await eventually(logged(caplog, "a worker process cannot be started"))
        os.kill(other, 0)
        program.symlink_to(sys.executable)
        await eventually(has_started(sign, 3))
        assert await stopped(run) is True


async def test_one_that_can_never_be_started_is_no_success(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(Supervisor([str(tmp_path / "nothing")], 1)) as run:
        await eventually(logged(caplog, "trying again in 600 s"))
        assert await stopped(run) is False


async def test_each_signal_reaches_the_processes_and_their_ends_are_the_supervisors(tmp_path: Path) -> None:
    sign = tmp_path / "sign"
    # Each ends at the second signal, as it should.
    program = (
        "import signal; heard = []; signal.signal(signal.SIGTERM, lambda *_: heard.append(1)); "
        f"{NOTE}\nwhile len(heard) < 2: time.sleep(0.01)"
    )

    async with running(Supervisor([sys.executable, "-c", program, str(sign)], 2)) as run:
        await eventually(has_started(sign, 2))
        os.kill(os.getpid(), signal.SIGTERM)
        done, _ = await asyncio.wait((run,), timeout=0.3)
        assert not done
        assert await stopped(run) is True


@pytest.mark.contract("F8")
async def test_one_process_always_tries_while_the_others_pause_and_their_pauses_end_one_after_the_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervising, "RESTART_PAUSES", (600.0,))
    monkeypatch.setattr(supervising, "ALONE_PAUSES", (0.01,))
    sign, mended = tmp_path / "sign", tmp_path / "mended"
    program = f"{NOTE}\nos.path.exists({str(mended)!r}) or sys.exit(1)\ntime.sleep(600)"

    async with running(Supervisor([sys.executable, "-c", program, str(sign)], 3)) as run:
        # All three have ended, and would be away for minutes.
        await eventually(has_started(sign, 6))
        mended.touch()
        before = len(lines_of(sign))
        await eventually(has_started(sign, before + 1))
        await eventually(lambda: alive(int(lines_of(sign)[-1])))
        assert "in 200 s" in caplog.text or "in 400 s" in caplog.text
        await stopped(run)


@pytest.mark.contract("F8")
async def test_what_a_signal_ended_is_started_anew_soon_however_often(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervising, "RESTART_PAUSES", (600.0,))
    monkeypatch.setattr(supervising, "KILLED_PAUSES", (0.01,))
    sign = tmp_path / "sign"

    async with running(Supervisor([sys.executable, "-c", f"{NOTE}time.sleep(600)", str(sign)], 2)) as run:
        for times in range(2, 8):
            await eventually(has_started(sign, times))
            # The one that has run for longest: another one is always running.
            os.kill(int(lines_of(sign)[times - 2]), signal.SIGKILL)
        await eventually(has_started(sign, 8))
        assert caplog.text.count("ended with signal SIGKILL") == 6
        await stopped(run)


@pytest.mark.contract("F8")
async def test_where_all_were_killed_one_is_started_anew_sooner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervising, "KILLED_PAUSES", (600.0,))
    monkeypatch.setattr(supervising, "ALONE_PAUSES", (600.0,))
    monkeypatch.setattr(supervising, "KILLED_ALONE_PAUSES", (0.01,))
    sign = tmp_path / "sign"

    async with running(Supervisor([sys.executable, "-c", f"{NOTE}time.sleep(600)", str(sign)], 2)) as run:
        await eventually(has_started(sign, 2))
        for each in lines_of(sign):
            os.kill(int(each), signal.SIGKILL)
        await eventually(has_started(sign, 3))
        await stopped(run)


async def alive(pid: int) -> bool:
    os.kill(pid, 0)
    return True


def logged(caplog: pytest.LogCaptureFixture, text: str) -> Callable[[], Awaitable[bool]]:
    async def is_logged() -> bool:
        return text in caplog.text

    return is_logged
