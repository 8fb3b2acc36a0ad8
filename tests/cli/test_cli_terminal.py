"""What commands print: never what a terminal would obey."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgqueue.cli.output import LONGEST, as_text, known, plain, print_json, table
from pgqueue.model.figures import duration

HOSTILE = "\x1b[2J\x1b]0;owned\x07\u202edesrever\u2066\r\b\u200b\ud800 [red]red[/red] :smile: \x9b31m"


def rendered(*cells: str) -> str:
    return "\n".join(table(["one", "two"][: len(cells)], [cells]).lines(None))


@settings(max_examples=30)
@given(st.text())
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    assert all(each.isprintable() for each in plain(text))
    assert all(each.isprintable() or each == "\n" for each in plain(text, keep_lines=True))


@settings(max_examples=30)
@given(st.text(alphabet=st.characters(categories=["L", "N", "P", "S"])))
def test_what_can_be_shown_is_shown_as_it_is(text: str) -> None:
    assert plain(text) == text


def test_hostile_text_is_neither_obeyed_nor_markup() -> None:
    line = rendered("id", HOSTILE).splitlines()[1]

    assert "\\x1b[2J" in line
    assert "\\u202e" in line
    assert "[red]red[/red] :smile:" in line
    assert not any(each in line for each in "\x07\u202e\u2066\r\b\u200b\x9b")
    assert "\x1b[2J" not in line
    assert "\x1b]0" not in line


def test_json_is_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({HOSTILE: HOSTILE})

    printed = capsys.readouterr().out
    assert printed.isascii()
    assert not any(each in printed for each in "\x1b\x07\r\b\x9b")
    assert json.loads(printed) == {HOSTILE: HOSTILE}


def test_lines_are_kept_where_that_is_asked_for() -> None:
    assert plain("a\n\tb\x1b\r", keep_lines=True) == "a\n    b\\x1b\\r"
    assert plain("a\n\tb") == "a\\n\\tb"


def test_a_long_text_is_cut_and_says_so() -> None:
    shown = plain("x" * 1_000_000)

    assert len(shown) < LONGEST + 50
    assert shown.endswith("... (1,000,000 characters)")
    assert len(as_text(["x" * 1_000_000])) < LONGEST + 50


def test_a_figure_that_is_not_known_is_an_empty_cell() -> None:
    assert (known(duration, 61), known(duration, None)) == ("1 min 1 s", "")
