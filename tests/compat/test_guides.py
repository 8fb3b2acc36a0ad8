"""The guides for those who come from elsewhere do what they say."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from kit.snippets import run, snippets

from pgqueue.compat import ForeignAddressWarning, disconnect, dramatiq
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
        assert names["receipt"].result(timeout=10) == "receipt of order 7: 19.90"
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
        assert names["receipt"].result(timeout=10) == "receipt of order 7: 19.90"
    finally:
        worker.stop()
        names["broker"].close()

    assert sorted(capsys.readouterr().out.splitlines()) == ["13", "[0, 2, 4]", "to user@example.com: Subject"]


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
