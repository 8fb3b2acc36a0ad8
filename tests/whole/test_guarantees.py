"""Every promise that a test names is on the page of guarantees, and every promise there has its tests."""

from __future__ import annotations

import json

import pytest
from faults.command import FIGURES, WAITING
from faults.figures import TITLES
from kit.generated import load_generator

pytestmark = pytest.mark.contract("F15")

guarantees = load_generator("guarantees")


def test_the_page_has_every_promise_that_a_test_names_and_no_other() -> None:
    assert guarantees.promised() == guarantees.marks().keys()


def test_the_page_names_the_tests_of_each_promise_as_they_are_marked() -> None:
    assert guarantees.PAGE.read_text(encoding="utf-8") == guarantees.page(), "run `python docs/generate`"


def test_the_figures_of_a_full_run_are_shown_beside_their_bars() -> None:
    row = {"fault": "SIGKILL", "measured": "4.1 s", "bar": "≤ 4.5 s", "of": "300 kills"}
    run = {"when": "2026-11-28", "machine": "2 processors", "seed": 7, "minutes": 30, "rows": [row]}

    assert "| SIGKILL | 4.1 s | ≤ 4.5 s | 300 kills |" in guarantees.figures(run)
    assert "from seed 7" in guarantees.figures(run)


def test_the_last_full_run_measured_all_that_has_a_bar() -> None:
    rows = json.loads(guarantees.FIGURES.read_text(encoding="utf-8"))["rows"]

    of = {row["fault"].partition(":")[0] for row in rows if row["measured"] and row["bar"]}
    assert of == {TITLES[scenario] for scenario in (*FIGURES, *WAITING, "mixed")}
    assert all(row["fault"] in guarantees.PAGE.read_text(encoding="utf-8") for row in rows)


def test_the_page_says_what_is_not_promised() -> None:
    assert "## What is not promised" in guarantees.PAGE.read_text(encoding="utf-8")
