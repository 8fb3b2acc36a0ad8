"""The guides for those who come from elsewhere do what they say."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from kit.snippets import DOCS, run, snippets

from pgqueue.compat import ForeignAddressWarning, disconnect, dramatiq
from pgqueue.compat.celery.conf import DEFAULTS
from pgqueue.compat.rq import Worker

pytestmark = pytest.mark.contract("P8.8")

MAILING = """
def send_email(to, subject, body):
    return f"{subject} for {to}"
"""


@pytest.fixture(autouse=True)
def _environment(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PGQUEUE_DSN", dsn)
    (tmp_path / "mailing.py").write_text(MAILING)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("mailing", None)
    sys.modules.pop("shop", None)


def execute(code: str, names: dict[str, Any]) -> None:
    exec(compile(code, "guide", "exec"), names)


@pytest.mark.contract("P8.11")
def test_the_guide_from_rq() -> None:
    names: dict[str, Any] = {"__name__": "guide"}
    first, then = snippets("how-to/from-rq.md", "python")

    with pytest.warns(ForeignAddressWarning):
        execute(first, names)
    execute(then, names)
    try:
        Worker([names["queue"], "mail"]).work(burst=True)

        assert names["job"].return_value() == "Subject for user@example.com"
        assert names["later"].return_value() == "Again for user@example.com"
        assert names["receipt"].result(timeout=60) == "receipt of order 7: 19.90"
    finally:
        disconnect(names["pgq"])


@pytest.mark.contract("P8.11")
def test_the_guide_from_dramatiq(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"__name__": "guide"}
    first, results, then = snippets("how-to/from-dramatiq.md", "python")

    with pytest.warns(ForeignAddressWarning):
        execute(first, names)
    execute(then, names)
    worker = dramatiq.Worker(names["broker"])
    worker.start()
    try:
        execute(results, names)
        assert names["receipt"].result(timeout=60) == "receipt of order 7: 19.90"
    finally:
        worker.stop()
        names["broker"].close()

    assert sorted(capsys.readouterr().out.splitlines()) == ["13", "[0, 2, 4]", "to user@example.com: Subject"]


@pytest.mark.contract("P8.11")
async def test_the_guide_from_celery(tmp_path: Path) -> None:
    first, sends, then, native = snippets("how-to/from-celery.md", "python")
    # Tasks with time limits run in child processes, which import their module.
    (tmp_path / "shop.py").write_text(first)

    with pytest.warns(ForeignAddressWarning):
        names: dict[str, Any] = vars(importlib.import_module("shop"))
    for code in (sends, then, native):
        execute(code, names)
    app, pgq = names["app"], names["pgq"]
    with app:
        async with pgq, pgq.worker():
            results = [await pgq.wait(names[name].id) for name in ("result", "counted", "chained", "receipt")]
        # They are read by the client, which is another one than the worker's.
        both, later = names["both"].get(timeout=60), names["later"].state

    assert [job.result for job in results] == [
        "receipt of order 7",
        3,
        "receipt of order 10",
        "receipt of order 7: 19.90",
    ]
    assert (both, later) == (["receipt of order 1", "receipt of order 2"], "PENDING")


def test_the_page_of_differences_has_every_setting() -> None:
    page = (DOCS / "reference" / "compat.md").read_text(encoding="utf-8")

    assert {name for name in DEFAULTS if f"`{name}`" not in page} == set()


class Mocked(httpx.AsyncClient):
    """A client whose requests are all answered with four bytes."""

    def __init__(self) -> None:
        super().__init__(transport=httpx.MockTransport(lambda _: httpx.Response(200, content=b"four")))


@pytest.mark.parametrize(
    ("framework", "comes_to"),
    [("arq", 4), ("taskiq", 10), ("saq", (4, [0, 2, 4])), ("procrastinate", 3)],
)
async def test_the_page_from(framework: str, comes_to: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httpx, "AsyncClient", Mocked)
    names: dict[str, Any] = {"__name__": "guide"}

    for code in snippets(f"how-to/from-{framework}.md", "python"):
        await run(code, names)

    assert await names["main"]() == comes_to


def test_the_page_from_djangos_database_backend() -> None:
    names: dict[str, Any] = {}
    [settings] = snippets("how-to/from-django-tasks.md", "python")

    execute(settings, names)

    [in_guide] = [each for each in snippets("how-to/django.md", "python") if "INSTALLED_APPS" in each]
    execute(in_guide, there := dict[str, Any]())
    assert names["INSTALLED_APPS"] == there["INSTALLED_APPS"]
    assert names["TASKS"]["default"]["BACKEND"] == there["TASKS"]["default"]["BACKEND"]
