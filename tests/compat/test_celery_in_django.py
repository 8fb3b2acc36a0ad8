"""An app of Celery's in a Django project, as Celery's guide has it: settings, discovery, models in tasks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest

from pgqueue import PgQueue
from pgqueue.blocking import BlockingPgQueue

pytestmark = [pytest.mark.contract("P8.11"), pytest.mark.any_server]

FILES = {
    "proj/__init__.py": "from .celery import app as celery_app\n",
    "proj/celery.py": """\
import os
from pgqueue.compat.celery import Celery
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "proj.settings")
app = Celery("proj")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
""",
    "proj/settings.py": """\
import os
SECRET_KEY = "a secret"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "shop"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
TIME_ZONE = "Europe/Berlin"
CELERY_BROKER_URL = os.environ["SHOP_BROKER"]
CELERY_TIMEZONE = TIME_ZONE
CELERY_TASK_TRACK_STARTED = True
""",
    "shop/__init__.py": "",
    "shop/tasks.py": """\
from django.contrib.auth.models import User
from django.conf import settings
from pgqueue.compat.celery import current_app, shared_task

def tell():
    return [User._meta.label, settings.TIME_ZONE, current_app.main, current_app.conf.timezone]

@shared_task
def in_a_thread():
    return tell()

@shared_task(time_limit=1800)
def in_a_child_process():
    return tell()
""",
}
SEND = """\
import os, django
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "proj.settings")
django.setup()
from shop.tasks import in_a_child_process, in_a_thread
print(in_a_thread.delay().id, in_a_child_process.delay().id)
"""


def test_tasks_of_djangos_apps_are_found_and_read_models_in_threads_and_processes(
    dsn: str, tmp_path: Path
) -> None:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PGQUEUE_DSN", "DJANGO_SETTINGS_MODULE")
    }

    def run(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, *command],
            cwd=tmp_path,
            env={**environment, "SHOP_BROKER": dsn},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    sent = run("-c", SEND).split()
    run("-m", "pgqueue", "worker", "proj.celery:app", "--burst")

    with BlockingPgQueue(PgQueue(dsn)) as queue:
        results = [queue.get(UUID(each)).result for each in sent]
    assert results == [["auth.User", "Europe/Berlin", "proj", "Europe/Berlin"]] * 2
