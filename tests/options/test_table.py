"""The table of options: one row per option, which the TypedDicts agree with, and levels made of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pgqueue import PgQueue
from pgqueue.options.declared import AttemptOptions, CallOptions, RetryOptions, TaskOptions
from pgqueue.options.levels import DEFAULTS, NO_OPTIONS, Options, read_options
from pgqueue.options.meanings import meanings
from pgqueue.options.table import AT, OPTIONS, Level
from pgqueue.retry.policy import RetryPolicy

DECLARED: dict[Level, type] = {
    Level.CALL: CallOptions,
    Level.TASK: TaskOptions,
    Level.GLOBAL: TaskOptions,
    Level.RUN_TIME: AttemptOptions,
    Level.ERROR: RetryOptions,
}


@pytest.mark.parametrize("level", DECLARED)
def test_the_types_and_the_table_name_the_same_options_at_each_level(level: Level) -> None:
    assert AT[level].keys() == DECLARED[level].__annotations__.keys()


def test_a_queue_takes_the_options_of_a_task_but_for_the_queue() -> None:
    assert AT[Level.QUEUE].keys() == AT[Level.TASK].keys() - {"queue"}


def test_http_sets_what_a_call_can_set_but_for_what_its_key_header_says() -> None:
    by_header = {name for name in OPTIONS if name.startswith("idempotency_")} | {"on_conflict"}

    assert AT[Level.HTTP].keys() == AT[Level.CALL].keys() - by_header - {
        "at_front",
        "on_duplicate",
        "depends_on",
        "allow_failure",
        # Made by code.
        "webhooks",
    }


def test_every_option_has_a_default_that_its_own_check_takes() -> None:
    assert DEFAULTS.keys() == OPTIONS.keys() - {"reject_on_worker_lost", "at_front"}


def test_every_option_has_a_sentence_for_editors_and_for_the_docs() -> None:
    assert meanings().keys() == OPTIONS.keys()


def test_every_option_about_retries_is_a_field_of_the_retry_policy() -> None:
    fields = {option.retry_field for option in OPTIONS.values()} - {None}

    assert fields == RetryPolicy.__dataclass_fields__.keys() - {"fixed"}


def test_a_nearer_level_wins_and_levels_that_set_nothing_are_not_copied() -> None:
    wide, near = Options(timeout=1.0, priority=1), Options(priority=2)

    assert wide | near == Options(timeout=1.0, priority=2)
    assert near | wide == wide
    assert wide | NO_OPTIONS is wide
    assert NO_OPTIONS | wide is wide
    assert read_options("here", {}, Level.CALL) is NO_OPTIONS


def test_calls_are_of_one_kind_that_differ_in_ids_and_keys_alone() -> None:
    one, other = (
        read_options("here", {"priority": 3, "headers": {"a": "b"}, "idempotency_key": key}, Level.CALL)
        for key in ("one", "other")
    )
    keyless = read_options("here", {"priority": 3, "headers": {"a": "b"}}, Level.CALL)
    headed = read_options("here", {"priority": 3, "headers": {"a": "c"}, "idempotency_key": "k"}, Level.CALL)

    assert one.kind() == other.kind()
    assert len({one.kind(), other.kind(), keyless.kind(), headed.kind()}) == 3


async def test_a_look_at_a_job_parses_its_stored_options_once(
    pgq: PgQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    @pgq.task
    async def work() -> None: ...

    job = await work.options(max_retries=7, timeout=12).enqueue()
    parsed: list[str] = []
    decode = json.JSONDecoder.decode

    def note(decoder: json.JSONDecoder, text: str, *rest: Any) -> Any:
        parsed.append(text)
        return decode(decoder, text, *rest)

    # Not by sys.setprofile: under it CPython 3.11 hung here when the suite ran in two processes.
    monkeypatch.setattr(json.JSONDecoder, "decode", note)
    found = await pgq.get(job.id)
    monkeypatch.undo()

    assert found.max_attempts == 8
    assert [json.loads(each) for each in parsed if "max_retries" in each] == [
        {"max_retries": 7, "timeout": 12.0}
    ]
