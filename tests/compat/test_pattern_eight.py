"""The founding document's samples of RQ and of Dramatiq, with nothing but their imports changed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pgqueue.compat import disconnect
from pgqueue.compat.rq import Queue, Redis

pytestmark = pytest.mark.contract("P8.11")

MAILING = """
from pathlib import Path


class EmailClient:
    def send(self, to, subject, body):
        with Path("sent").open("a") as file:
            print(to, subject, body, file=file)


email_client = EmailClient()


def send_email(to: str, subject: str, body: str) -> None:
    email_client.send(to, subject, body)
"""

RQ_SAMPLE = """
from mailing import send_email

from pgqueue.compat.rq import Queue
from pgqueue.compat.rq import Redis

queue = Queue(connection=Redis())
job = queue.enqueue(send_email, "user@example.com", "Subject", "Body")
"""

DRAMATIQ_SAMPLE = """
from mailing import email_client

from pgqueue.compat import dramatiq
from pgqueue.compat.dramatiq.brokers.redis import RedisBroker

dramatiq.set_broker(RedisBroker())


@dramatiq.actor
def send_email(to: str, subject: str, body: str) -> None:
    email_client.send(to, subject, body)
"""


class Folder:
    """A project, and the environment of its programs."""

    def __init__(self, path: Path, dsn: str) -> None:
        self.path = path
        self.environment = {**os.environ, "PGQUEUE_DSN": dsn, "PYTHONWARNINGS": "default"}
        (path / "mailing.py").write_text(MAILING)

    def run(self, *command: str) -> str:
        """Run a program of Python to its end; return what it says on stderr."""
        done = subprocess.run(
            [sys.executable, *command],
            cwd=self.path,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stderr

    @property
    def sent(self) -> list[str]:
        return (self.path / "sent").read_text().splitlines()


@pytest.fixture
def folder(tmp_path: Path, dsn: str) -> Folder:
    return Folder(tmp_path, dsn)


def test_the_sample_of_rq_runs_and_so_does_its_worker(folder: Folder) -> None:
    (folder.path / "sample.py").write_text(RQ_SAMPLE)

    told = folder.run("sample.py")
    folder.run("-P", "-m", "pgqueue", "worker", "pgqueue.compat.rq:app", "--burst")

    assert folder.sent == ["user@example.com Subject Body"]
    assert told.count("ForeignAddressWarning: Redis is a redis:// address: ignored") == 1


def test_a_worker_takes_a_queue_of_rq_by_its_module(folder: Folder, dsn: str) -> None:
    (folder.path / "queues.py").write_text(
        "from pgqueue.compat.rq import Queue, Redis\n\nhigh = Queue('high', connection=Redis())\n"
    )
    connection = Redis.from_url(dsn)
    Queue("high", connection=connection).enqueue("mailing.send_email", "a", "b", body="c")
    disconnect(connection.pgqueue)

    folder.run("-P", "-m", "pgqueue", "worker", "queues", "--burst")

    assert folder.sent == ["a b c"]


def test_the_sample_of_dramatiq_runs_and_so_does_its_worker(folder: Folder) -> None:
    (folder.path / "actors.py").write_text(DRAMATIQ_SAMPLE)
    program = "from actors import send_email; send_email.send('user@example.com', 'Welcome!', body='Hello')"

    told = folder.run("-c", program)
    folder.run("-P", "-m", "pgqueue", "worker", "actors", "--burst")

    assert folder.sent == ["user@example.com Welcome! Hello"]
    assert told.count("ForeignAddressWarning: RedisBroker is a redis:// address: ignored") == 1
