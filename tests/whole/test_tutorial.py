"""The tutorial, typed literally: its files, and its commands in their order."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from kit.snippets import ROOT, commands, snippets

ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
PLACES = {"pgqueue": f"{sys.executable} -m pgqueue", "python": sys.executable}
WITHIN = 180.0


class Shell:
    """Types commands in a folder; the ids that they print take the place of those in the page."""

    def __init__(self, folder: Path, dsn: str) -> None:
        self._folder = folder
        self._environment = {**os.environ, "PGQUEUE_DSN": dsn, "PYTHONPATH": str(ROOT)}
        self._ids: dict[str, str] = {}

    def start(self, command: str) -> subprocess.Popen[str]:
        program, _, arguments = command.partition(" ")
        for written, real in self._ids.items():
            arguments = arguments.replace(written, real)
        return subprocess.Popen(
            f"exec {PLACES[program]} {arguments}",
            shell=True,
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, command: str) -> str:
        """Return what the command prints."""
        printed, _ = self.start(command).communicate(timeout=WITHIN)
        return printed

    def learn(self, written: str, printed: str) -> None:
        """Take the id that a command has *printed* wherever the page has *written* one of its own."""
        [real] = ID.findall(printed)
        self._ids[written] = real


@pytest.fixture
def shell(tmp_path: Path, dsn: str) -> Shell:
    shop, order = snippets("tutorial.md", "python")
    (tmp_path / "shop.py").write_text(shop)
    (tmp_path / "order.py").write_text(order)
    return Shell(tmp_path, dsn)


@pytest.mark.contract("P5.1", "P5.5", "P8.1")
def test_the_tutorial_leads_from_an_empty_folder_to_a_redriven_job(shell: Shell) -> None:
    typed = iter(commands("tutorial.md"))
    first, second = dict.fromkeys(ID.findall("".join(snippets("tutorial.md", "console"))))

    for _ in ("mkdir", "venv", "pip", "database"):
        next(typed)
    shell.run(next(typed))  # migrate
    shell.learn(first, shell.run(next(typed)))
    assert "pending" in shell.run(next(typed))
    worker = shell.start(next(typed))
    try:
        assert "receipt 1 sent to ada@example.com" in shell.run(f"{next(typed)} --watch")
        shell.learn(second, shell.run(next(typed)))
        assert "failed, attempt 2" in shell.run(f"pgqueue job {second} --watch")
        assert "ValueError: 'bob.example.com' is not an address" in shell.run(next(typed))  # dead list
        assert "ValueError" in shell.run(next(typed))  # dead groups
        shown = shell.run(next(typed))  # dead show
        assert "Traceback" in shown
        assert '"address":"bob.example.com"' in shown
        shell.run(next(typed))  # dead redrive
        assert "receipt 2 sent to bob@example.com" in shell.run(next(typed))
    finally:
        worker.send_signal(signal.SIGINT)
        logged, _ = worker.communicate(timeout=WITHIN)

    assert list(typed) == []
    assert [event for event in ("job.started", "job.retrying", "job.failed") if event not in logged] == []
    assert worker.returncode == 0
