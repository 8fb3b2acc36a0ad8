"""What is stored of an error has a bound, and so has what is looked at of it, whatever it is."""

from __future__ import annotations

import linecache
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from pgqueue.model import error_groups, tracebacks
from pgqueue.model.job_error import MAX_MESSAGE, MAX_TRACEBACK, MAX_TYPE, JobError, describe

pytestmark = [pytest.mark.handlers, pytest.mark.contract("W21")]

HUGE = 60_000_000


E = TypeVar("E", bound=BaseException)


def raised(error: E) -> E:
    try:
        raise error  # noqa: TRY301
    except BaseException:
        return error


class CountingError(ValueError):
    """Counts how often its text is asked for."""

    asked = 0

    def __str__(self) -> str:
        CountingError.asked += 1
        return "text"


def chain(length: int, *, as_context: bool = False) -> Exception:
    error: Exception | None = None
    for _ in range(length):
        new = CountingError()
        if as_context:
            new.__context__ = error
        else:
            new.__cause__ = error
        error = raised(new)
    assert error is not None
    return error


def wide() -> BaseException:
    return raised(ExceptionGroup("wide", [raised(CountingError(number)) for number in range(32_768)]))


def nested() -> BaseException:
    error: Exception = CountingError()
    for _ in range(3_000):
        error = ExceptionGroup("nested", [error])
    return raised(error)


def shared() -> BaseException:
    """Hold itself, in effect, 2^40 times."""
    error: Exception = CountingError()
    for _ in range(40):
        error = ExceptionGroup("shared", [error, error])
    return raised(error)


def groups_of_chains() -> BaseException:
    return ExceptionGroup("a", [ExceptionGroup("b", [chain(100) for _ in range(100)]) for _ in range(10)])


def cyclic() -> BaseException:
    first, second = CountingError(), CountingError()
    first.__cause__, second.__context__ = second, first
    group = ExceptionGroup("cyclic", [first, second])
    second.__cause__ = group
    return raised(group)


def deep() -> BaseException:
    def go(depth: int) -> None:
        if depth:
            go(depth - 1)
        raise CountingError

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    try:
        go(9_000)
    except CountingError as error:
        return error
    finally:
        sys.setrecursionlimit(limit)
    raise AssertionError


def noted() -> BaseException:
    error = CountingError()
    for number in range(100_000):
        error.add_note(f"{number}" * 100)
    error.__notes__[0] = 7  # type: ignore[call-overload]
    return raised(error)


def validated() -> BaseException:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(list[int]).validate_python(["x"] * 300_000)
    return caught.value


class Name(str):
    """A string that lies about its parts."""

    __slots__ = ()

    def __getitem__(self, _key: object) -> str:
        return "x" * HUGE

    def replace(self, *_: object) -> str:
        raise SystemExit(3)

    encode = replace  # type: ignore[assignment]


class LyingError(Exception):
    """Raises, whatever it is asked."""

    def __init__(self) -> None:
        super().__init__("lies")

    def _raise(self) -> Any:
        raise SystemExit(3)

    __class__ = property(_raise)
    args = property(_raise)
    __cause__ = property(_raise)
    __context__ = property(_raise)
    __traceback__ = property(_raise)
    __notes__ = property(_raise)
    __suppress_context__ = property(_raise)

    def __getattr__(self, _name: str) -> Any:
        raise KeyboardInterrupt

    def __repr__(self) -> str:
        raise SystemExit(3)

    __str__ = __repr__


class LyingGroup(ExceptionGroup[Exception]):
    exceptions = property(lambda self: (self, self))


class SpeakingError(Exception):
    def __str__(self) -> str:
        return Name("said")


SHAPES: dict[str, Callable[[], BaseException]] = {
    "a message of 60 MB": lambda: ValueError("x" * HUGE),
    "a message of 60 MB among others": lambda: ValueError("x" * HUGE, 1),
    "a key of 60 MB": lambda: KeyError("x" * HUGE),
    "bytes of 60 MB": lambda: ValueError(b"x" * HUGE),
    "a file name of 60 MB": lambda: OSError(2, "no", "x" * HUGE),
    "a decoding error of 60 MB": lambda: UnicodeDecodeError("utf-8", b"x" * HUGE, 0, 1, "no"),
    "a syntax error of 60 MB": lambda: SyntaxError("no", ("f", 1, 1, "x" * HUGE)),
    "a list of ten million": lambda: ValueError([0] * 10_000_000),
    "a set of a million": lambda: ValueError(set(range(1_000_000))),
    "a dict of a million": lambda: ValueError(dict.fromkeys(range(1_000_000)), 1),
    "a list of long strings": lambda: ValueError(["x" * 1_000_000] * 60),
    "a string of its own class": lambda: ValueError(Name("x" * HUGE), 1),
    "an integer that has no text": lambda: ValueError(1 << 1_000_000),
    "a name of 1 MB": lambda: type("N" * 1_000_000, (Exception,), {})("x"),
    "a name from elsewhere": lambda: type("N", (Exception,), {"__module__": Name("m")})("x"),
    "3,000 causes": lambda: chain(3_000),
    "3,000 contexts": lambda: chain(3_000, as_context=True),
    "a group of 32,768": wide,
    "3,000 groups in groups": nested,
    "groups that share": shared,
    "groups of chains": groups_of_chains,
    "a cycle": cyclic,
    "a traceback of 9,000": deep,
    "100,000 notes": noted,
    "300,000 validation errors": validated,
    "lies": LyingError,
    "lies about its group": lambda: LyingGroup("g", [ValueError()]),
    "a text that lies": SpeakingError,
    "surrogates": lambda: ValueError("\ud800" * 100_000),
    "NUL": lambda: ValueError("\0" * 100_000),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_stored_of_an_error_has_a_bound_and_so_has_what_is_asked_of_it(
    shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = raised(SHAPES[shape]())
    CountingError.asked = 0
    walked = counted_walks(monkeypatch)

    described = describe(error)

    assert described.type
    assert len(described.type) <= MAX_TYPE
    assert len(described.message) <= MAX_MESSAGE
    assert described.traceback is not None
    assert 0 < len(described.traceback) <= MAX_TRACEBACK
    for text in (described.type, described.message, described.traceback):
        assert type(text) is str
        assert len(text.encode()) <= 4 * len(text)
        assert "\0" not in text
    # The message, and what the traceback shows.
    assert CountingError.asked <= 1 + tracebacks.MAX_ERRORS
    assert walked() <= 2 * tracebacks.MAX_LINES


def counted_walks(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Return how many source lines were read since."""
    read = 0
    getline = linecache.getline

    def count(*arguments: Any) -> str:
        nonlocal read
        read += 1
        return getline(*arguments)

    monkeypatch.setattr(linecache, "getline", count)
    return lambda: read


def test_source_lines_of_megabytes_are_cut_and_large_files_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, length, is_read in (("long", 1_000_000, True), ("large", 5_000_000, False)):
        file = tmp_path / f"{name}.py"
        file.write_text(f"def work():\n    raise ValueError('{'y' * length}'[:4])\n")
        scope: dict[str, Any] = {}
        exec(compile(file.read_text(), str(file), "exec"), scope)
        with pytest.raises(ValueError, match="yyyy") as caught:
            scope["work"]()

        trace = describe(caught.value).traceback

        assert trace is not None
        assert f'{name}.py", line 2, in work' in trace
        assert ("raise ValueError('yyy" in trace) is is_read
        assert len(trace) < 3_000
        linecache.clearcache()


def test_a_traceback_reads_as_pythons_own() -> None:
    def fail() -> None:
        try:
            raise KeyError("first")  # noqa: TRY301
        except KeyError as error:
            raise RuntimeError("second") from error

    try:
        try:
            fail()
        except RuntimeError:
            raise LookupError("third\nof two lines")  # noqa: B904
    except LookupError as error:
        error.add_note("a note")
        ours, pythons = describe(error).traceback, "".join(traceback.format_exception(error))

    assert ours is not None
    marks = [line for line in pythons.splitlines() if set(line) <= set(" ^~")]
    assert [line for line in ours.splitlines() if line] == [
        line for line in pythons.splitlines() if line and line not in marks
    ]


def test_the_nearest_errors_and_the_root_of_a_long_chain_are_shown() -> None:
    error: Exception = ValueError("the root")
    for number in range(1_000):
        new = RuntimeError(f"number {number}.")
        new.__cause__ = error
        error = new

    trace = describe(error).traceback

    assert trace is not None
    shown = [trace.index(each) for each in ("the root", "number 0.", "[971 more errors", "number 990.")]
    assert shown == sorted(shown)
    assert trace.rstrip().endswith("number 999.")
    assert "number 500." not in trace


@given(st.text(), st.text(), st.none() | st.text())
def test_an_error_keeps_what_fits_whoever_makes_it(kind: str, message: str, trace: str | None) -> None:
    error = JobError(kind, message, trace)

    for given_text, kept in ((kind, error.type), (message, error.message), (trace, error.traceback)):
        assert given_text == kept or "\0" in str(given_text)
    assert JobError("x" * 9_999, "é" * 99_999, "y" * 99_999 + "z") == JobError(
        "x" * MAX_TYPE, "é" * MAX_MESSAGE, "y" * (MAX_TRACEBACK - 1) + "z"
    )


def test_a_group_of_any_shape_is_seen_through_within_bounds() -> None:
    kinds = [type(f"Kind{number}", (ValueError,), {}) for number in range(3)]
    many = ExceptionGroup("many", [kinds[number // 20_000](number) for number in range(60_000)])

    found = error_groups.leaves(many)

    assert len(found) == error_groups.MAX_LISTED + 2
    assert {type(each) for each in found} == {*kinds}
    # Not compared in an assert: showing them there would take for ever.
    assert [len(error_groups.leaves(each())) for each in (shared, nested)] == [1, 1]
    assert [type(each) for each in error_groups.leaves(LyingGroup("g", [KeyError()]))] == [KeyError]
    assert not error_groups.consists_of(many, kinds[0])
    assert error_groups.consists_of(many, ValueError)
    assert error_groups.contains(many, kinds[2])
