"""Pages that are made from the code say what the code says."""

from __future__ import annotations

import pytest
from kit.generated import load_generator

import pgqueue
from pgqueue import errors


@pytest.mark.parametrize("name", ["api", "errors", "options"])
def test_a_page_is_what_the_code_makes_it(name: str) -> None:
    generator = load_generator(name)

    assert generator.PAGE.read_text(encoding="utf-8") == generator.page(), "run `python docs/generate`"


def test_the_page_on_errors_has_each_error_that_programs_can_import() -> None:
    page = load_generator("errors").page()
    importable = [name for name in pgqueue.__all__ if hasattr(errors, name)]

    assert [name for name in importable if f"\n## {name}\n" not in page] == []


@pytest.mark.parametrize(
    "name", ["PgQueue.enqueue_many", "Task.enqueue", "JobHandle.result", "JobContext.step"]
)
def test_the_page_on_the_api_has_what_programs_call(name: str) -> None:
    assert f"\n### {name}\n" in load_generator("api").page()
