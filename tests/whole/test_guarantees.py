"""Every promise that a test names is on the page of guarantees, and every promise there has its tests."""

from __future__ import annotations

from kit.generated import load_generator

guarantees = load_generator("guarantees")


def test_the_page_has_every_promise_that_a_test_names_and_no_other() -> None:
    assert guarantees.promised() == guarantees.marks().keys()


def test_the_page_names_the_tests_of_each_promise_as_they_are_marked() -> None:
    assert guarantees.PAGE.read_text(encoding="utf-8") == guarantees.page(), "run `python docs/generate`"
