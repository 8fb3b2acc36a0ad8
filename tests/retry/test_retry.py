"""When and whether a failed attempt is tried again."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta, timezone
from email.message import Message
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.waiting import eventually

from pgqueue import JobContext, JobFailed, JobStatus, PgQueue
from pgqueue.model.checks import MAX_SECONDS
from pgqueue.model.outcomes import Ended, Retried
from pgqueue.options.declared import TaskOptions
from pgqueue.options.levels import DEFAULTS
from pgqueue.options.policy import Policy
from pgqueue.retry import (
    Answer,
    Jitter,
    JobSoFar,
    RetryPolicy,
    after_error,
    asked_delay,
    is_transient_status,
    read_delay,
    transient_http,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack

DSN = "postgresql://nowhere/none"
JOB = UUID(int=7)
MAX = 600.0

retries_of_any_job = st.integers(min_value=0, max_value=50) | st.integers(min_value=0, max_value=10**12)
factors = st.floats(min_value=1e-3, max_value=1e6)
jitters = st.sampled_from(["full", "equal", "none"])


def policy_of(**options: Unpack[TaskOptions]) -> Policy:
    """Return the policy of a task that has these options and nothing else set around it."""
    pgq = PgQueue(DSN)

    @pgq.task(**options)
    async def work() -> None: ...

    return pgq.registry.policy(work.definition, "default")


def exponential(
    *, factor: float = 1.0, longest: float = MAX, jitter: Jitter = "none", shortest: float = 0.0
) -> RetryPolicy:
    return RetryPolicy(
        max_retries=None,
        backoff=factor,
        default_delay=60.0,
        backoff_max=longest,
        jitter=jitter,
        delay_min=shortest,
    )


# How often


@pytest.mark.contract("P2.25")
@pytest.mark.parametrize("max_retries", [0, 1, 3])
def test_max_retries_counts_the_executions_after_the_first(max_retries: int) -> None:
    retry = policy_of(max_retries=max_retries).retry

    granted = [retries for retries in range(100) if retry.may_retry(retries)]

    assert granted == list(range(max_retries))


@pytest.mark.contract("P2.25")
@given(retries=retries_of_any_job)
def test_without_a_maximum_a_job_may_always_be_retried(retries: int) -> None:
    retry = policy_of(max_retries=None).retry

    assert retry.may_retry(retries)


@pytest.mark.contract("P2.25")
@pytest.mark.parametrize(("max_retries", "executions"), [(3, 4), (0, 1)])
async def test_a_failing_job_is_executed_once_more_than_its_retries(
    pgq: PgQueue, max_retries: int, executions: int
) -> None:
    seen: list[tuple[int, int]] = []

    @pgq.task(max_retries=max_retries, default_retry_delay=0)
    async def fail(ctx: JobContext) -> None:
        seen.append((ctx.retries, ctx.attempt))
        raise ValueError("again")

    job = await fail.enqueue()
    async with pgq.worker():
        with pytest.raises(JobFailed, match="ValueError: again"):
            await job.result(timeout=60)

    assert seen == [(retries, retries + 1) for retries in range(executions)]
    assert (await job.refresh()).attempt == executions


@pytest.mark.contract("P2.25")
async def test_an_unlimited_job_is_executed_until_it_succeeds(pgq: PgQueue) -> None:
    @pgq.task(max_retries=None, default_retry_delay=0)
    async def succeed_at_last(ctx: JobContext) -> int:
        if ctx.attempt < 6:
            raise ValueError("again")
        return ctx.retries

    job = await succeed_at_last.enqueue()
    async with pgq.worker():
        assert await job.result(timeout=60) == 5


# How long it waits


@pytest.mark.contract("P2.28")
@given(retries=retries_of_any_job, delay=st.floats(min_value=0, max_value=1e9), seed=st.integers())
def test_without_backoff_each_retry_waits_the_default_delay_exactly(
    retries: int, delay: float, seed: int
) -> None:
    retry = policy_of(retry_backoff=False, default_retry_delay=delay).retry

    assert retry.delay(retries, random.Random(seed)) == delay


@pytest.mark.contract("P2.28")
def test_without_backoff_the_delay_is_60_seconds_if_nothing_is_said() -> None:
    retry = policy_of(retry_backoff=False).retry

    assert [retry.delay(retries, random.Random(0)) for retries in range(4)] == [60.0] * 4


@pytest.mark.contract("P2.29")
def test_backoff_true_doubles_from_one_second() -> None:
    retry = policy_of(retry_backoff=True, retry_jitter=False).retry

    delays = [retry.delay(retries, random.Random(0)) for retries in range(12)]

    assert delays == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]


@pytest.mark.contract("P2.29")
@given(retries=retries_of_any_job, factor=factors, longest=factors)
def test_backoff_is_the_factor_doubled_each_time_and_never_above_the_maximum(
    retries: int, factor: float, longest: float
) -> None:
    retry = exponential(factor=factor, longest=longest)

    delay = retry.delay(retries, random.Random(0))

    # The smallest factor has passed the largest maximum long before 2 ** 64.
    assert delay == min(longest, math.ldexp(factor, min(retries, 64)))
    assert delay <= retry.delay(retries + 1, random.Random(0))


@pytest.mark.contract("P2.30")
@given(retries=retries_of_any_job, factor=factors, jitter=jitters, seed=st.integers())
def test_jitter_stays_within_its_bounds(retries: int, factor: float, jitter: Jitter, seed: int) -> None:
    whole = exponential(factor=factor).delay(retries, random.Random(seed))
    least = {"full": 0.0, "equal": whole / 2, "none": whole}[jitter]

    delay = exponential(factor=factor, jitter=jitter).delay(retries, random.Random(seed))

    assert least <= delay <= whole


@pytest.mark.contract("P2.30")
@given(
    retries=retries_of_any_job,
    jitter=jitters,
    seed=st.integers(),
    shortest=st.floats(min_value=0, max_value=1e6),
)
def test_no_delay_is_below_the_minimum(retries: int, jitter: Jitter, seed: int, shortest: float) -> None:
    retry = exponential(jitter=jitter, shortest=shortest)

    assert retry.delay(retries, random.Random(seed)) >= shortest


@pytest.mark.contract("P2.30")
def test_full_jitter_draws_from_the_whole_range() -> None:
    rng = random.Random(7)

    shares = [exponential(jitter="full").delay(6, rng) / 64 for _ in range(2000)]

    tenths = [sum(1 for share in shares if int(share * 10) == tenth) for tenth in range(10)]
    assert min(tenths) > 100


@pytest.mark.contract("P2.30")
@given(seed=st.integers(min_value=0), jitter=st.sampled_from(["full", "equal"]))
def test_the_same_seed_gives_the_same_delays(seed: int, jitter: Jitter) -> None:
    retry = exponential(jitter=jitter)

    one, other = random.Random(seed), random.Random(seed)

    assert [retry.delay(n, one) for n in range(20)] == [retry.delay(n, other) for n in range(20)]


@pytest.mark.contract("P2.30")
async def test_a_seeded_queue_repeats_its_retry_times(dsn: str) -> None:
    async def delay() -> float:
        async with PgQueue(dsn, seed=42) as pgq:

            @pgq.task(retry_backoff=1000, retry_backoff_max=100_000)
            async def fail() -> None:
                raise ValueError("again")

            job = await fail.enqueue()

            async def is_waiting() -> bool:
                return await job.status() is JobStatus.SCHEDULED

            async with pgq.worker():
                await eventually(is_waiting)
            [attempt] = await pgq.attempts(job.id)
            next_run_at = (await job.refresh()).next_run_at
            assert next_run_at is not None
            return (next_run_at - attempt.ended_at).total_seconds()

    first = await delay()

    assert await delay() == pytest.approx(first, abs=1e-5)


# What follows an error

kinds = st.sampled_from([OSError, ConnectionError, ValueError, UnicodeError, KeyError, SystemExit])
sets_of_kinds = st.lists(kinds, max_size=3).map(tuple)
waits = st.floats(min_value=0, max_value=1e6)
limits = st.none() | st.integers(min_value=0, max_value=50)
policies = st.builds(
    RetryPolicy,
    max_retries=limits,
    backoff=st.none() | factors,
    default_delay=waits,
    backoff_max=factors,
    jitter=jitters,
    delay_min=waits,
    intervals=st.lists(waits, max_size=4).map(tuple),
    max_duration=st.none() | st.floats(min_value=1, max_value=1e6),
    autoretry_for=sets_of_kinds,
    dont_autoretry_for=sets_of_kinds,
    throws=sets_of_kinds,
    policies=st.dictionaries(kinds, st.fixed_dictionaries({}, optional={"max_retries": limits})),
)
answers: st.SearchStrategy[Answer] = st.none() | st.booleans() | waits | st.datetimes(timezones=st.just(UTC))
wishes: st.SearchStrategy[Any] = (
    st.none() | st.floats() | st.integers() | st.text() | st.timedeltas() | st.datetimes()
)


class AskingError(OSError):
    def __init__(self, wish: Any) -> None:
        self.retry_after = wish
        super().__init__("not now")


errors: st.SearchStrategy[BaseException] = kinds.map(lambda kind: kind()) | wishes.map(AskingError)


@pytest.mark.contract("P2.25", "P2.26")
@given(
    policy=policies, error=errors, answer=answers, retries=retries_of_any_job, age=waits, seed=st.integers()
)
def test_whatever_is_decided_is_within_what_the_options_allow(
    policy: RetryPolicy, error: BaseException, answer: Answer, retries: int, age: float, seed: int
) -> None:
    outcome = after_error(JobSoFar(JOB, retries, age), policy, error, answer, random.Random(seed))

    settled = policy.after(error)
    is_too_often = settled.max_retries is not None and retries >= settled.max_retries
    is_too_old = settled.max_duration is not None and age >= settled.max_duration
    is_named = isinstance(error, (*policy.autoretry_for, *policy.policies))
    is_refused = answer is False or isinstance(error, policy.dont_autoretry_for)
    if isinstance(error, policy.throws):
        assert isinstance(outcome, Ended)
        assert outcome.reason == "expected"
    elif is_refused or (answer is None and not is_named) or is_too_often or is_too_old:
        assert isinstance(outcome, Ended)
    else:
        assert isinstance(outcome, Retried)
        assert policy.delay_min <= outcome.delay <= MAX_SECONDS
        assert outcome.not_before is None or outcome.not_before.utcoffset() is not None
    assert outcome.error is not None
    assert outcome.error.type == type(error).__name__


@pytest.mark.contract("P2.25", "P2.36")
@given(policy=policies, error=errors, answers=st.lists(answers, min_size=60, max_size=60))
def test_a_job_is_executed_at_most_once_more_than_its_retries_and_exhausted_it_stays(
    policy: RetryPolicy, error: BaseException, answers: list[Answer]
) -> None:
    rng = random.Random(0)
    jobs = [JobSoFar(JOB, retries, age=60.0 * retries) for retries in range(len(answers))]

    outcomes = [
        after_error(job, policy, error, answer, rng) for job, answer in zip(jobs, answers, strict=True)
    ]

    limit = policy.after(error).max_retries
    granted = [isinstance(outcome, Retried) for outcome in outcomes]
    assert limit is None or sum(granted) <= limit
    may_retry = [policy.after(error).may_retry(job.retries, job.age) for job in jobs]
    if False in may_retry:
        assert not any(granted[may_retry.index(False) :])


@pytest.mark.contract("P2.27")
@given(intervals=st.lists(waits, min_size=1, max_size=5).map(tuple), retries=retries_of_any_job)
def test_the_last_of_the_intervals_repeats(intervals: tuple[float, ...], retries: int) -> None:
    retry = policy_of(retry_intervals=intervals).retry

    expected = intervals[retries] if retries < len(intervals) else intervals[-1]
    assert retry.delay(retries, random.Random(0)) == expected


@pytest.mark.contract("P2.27")
@given(wish=wishes)
def test_a_wish_is_a_delay_or_an_aware_time_or_nothing(wish: Any) -> None:
    found = read_delay(wish)

    if isinstance(found, datetime):
        assert found.utcoffset() is not None
    elif found is not None:
        assert 0 <= found <= MAX_SECONDS


@pytest.mark.contract("P2.27")
@pytest.mark.parametrize(
    ("wish", "found"),
    [
        (7, 7.0),
        (timedelta(minutes=1), 60.0),
        (" 120 ", 120.0),
        ("Wed, 21 Oct 2099 07:28:00 GMT", datetime(2099, 10, 21, 7, 28, tzinfo=UTC)),
        (datetime(2099, 1, 1, tzinfo=UTC), datetime(2099, 1, 1, tzinfo=UTC)),
        (datetime(2099, 1, 1), None),  # noqa: DTZ001
        (10**400, MAX_SECONDS),
        ("9" * 400, MAX_SECONDS),
        (-1, None),
        (math.nan, None),
        (math.inf, None),
        (True, None),
        ("soon", None),
        ("", None),
        (b"5", None),
    ],
)
def test_a_wish_is_read_as_http_servers_and_programs_write_it(wish: Any, found: Any) -> None:
    assert read_delay(wish) == found


@pytest.mark.contract("W9")
@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=-14)), timezone(timedelta(hours=14))])
def test_a_time_beyond_the_calendar_that_an_error_asks_for_is_one_that_can_be_stored(zone: timezone) -> None:
    assert read_delay(END.replace(tzinfo=zone)) == datetime(9999, 12, 30, tzinfo=UTC)
    assert read_delay(START.replace(tzinfo=zone)) == datetime(1, 1, 2, tzinfo=UTC)


START, END = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)


@pytest.mark.contract("P2.27")
def test_an_error_that_breaks_when_it_is_asked_asks_for_nothing() -> None:
    class BrokenError(Exception):
        @property
        def retry_after(self) -> float:
            raise RuntimeError("no")

    assert asked_delay(BrokenError()) is None


# What HTTP servers say


class Response:
    def __init__(self, status_code: int, headers: dict[str, str] | None = None) -> None:
        self.status_code = status_code
        self.headers = headers or {}


class HttpxError(Exception):
    """Like those of httpx and requests."""

    def __init__(self, response: Response) -> None:
        self.response = response
        super().__init__("refused")


class AiohttpError(Exception):
    """Like aiohttp's."""

    def __init__(self, status: int, headers: dict[str, str]) -> None:
        self.status = status
        self.headers = headers
        super().__init__("refused")


@pytest.mark.contract("BP9")
@pytest.mark.parametrize(
    ("status", "is_transient"),
    [
        *((status, True) for status in (408, 425, 429, 500, 502, 503, 504)),
        *((status, False) for status in (200, 301, 400, 401, 403, 404, 409, 410, 422, 501, 505)),
    ],
)
def test_a_status_is_transient_if_the_same_request_may_succeed_later(status: int, is_transient: bool) -> None:
    assert is_transient_status(status) is is_transient


@pytest.mark.contract("BP9")
@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (HttpxError(Response(503)), True),
        (HttpxError(Response(404)), False),
        (AiohttpError(429, {}), True),
        (AiohttpError(422, {}), False),
        (HTTPError("http://a", 500, "oh", Message(), None), True),
        (HTTPError("http://a", 401, "no", Message(), None), False),
        (ConnectionError(), None),
    ],
)
def test_an_http_error_is_retried_by_its_status(error: BaseException, answer: bool | None) -> None:
    job: Any = None

    assert transient_http(1, error, job) is answer


@pytest.mark.contract("BP9", "P2.27")
def test_a_retry_after_header_is_the_least_delay() -> None:
    policy = policy_of(default_retry_delay=10, retry_when=transient_http).retry
    at = datetime(2099, 10, 21, 7, 28, tzinfo=UTC)

    def after(error: BaseException) -> tuple[float, datetime | None] | None:
        """Return the delay before the retry and its earliest time; None: there is no retry."""
        job: Any = None
        answer = transient_http(1, error, job)
        outcome = after_error(JobSoFar(JOB, 0, 0), policy, error, answer, random.Random(0))
        return (outcome.delay, outcome.not_before) if isinstance(outcome, Retried) else None

    assert after(HttpxError(Response(503, {"Retry-After": "120"}))) == (120, None)
    assert after(HttpxError(Response(503, {"retry-after": "1"}))) == (10, None)
    assert after(AiohttpError(429, {"Retry-After": "Wed, 21 Oct 2099 07:28:00 GMT"})) == (10, at)
    assert after(AiohttpError(404, {"Retry-After": "120"})) is None
    assert after(OSError()) == (10, None)


# What holds when nobody says anything


@pytest.mark.contract("BP8", "P2.30")
def test_the_default_policy_is_exponential_backoff_with_full_jitter() -> None:
    retry = policy_of().retry

    assert retry == Policy.of(DEFAULTS).retry
    assert retry.backoff == 1.0
    assert retry.backoff_max == MAX
    assert retry.jitter == "full"
    assert retry.max_retries == 3


@pytest.mark.contract("BP8")
async def test_a_job_without_options_waits_for_a_time_within_its_backoff(pgq: PgQueue) -> None:
    @pgq.task
    async def fail() -> None:
        raise ValueError("again")

    job = await fail.enqueue()
    async with pgq.worker():

        async def has_failed_thrice() -> bool:
            return len(await pgq.attempts(job.id)) >= 3

        await eventually(has_failed_thrice)
        attempts = await pgq.attempts(job.id)

    starts = [attempt.started_at for attempt in attempts]
    for retries, (attempt, next_start) in enumerate(zip(attempts, starts[1:], strict=False)):
        assert next_start is not None
        assert next_start >= attempt.ended_at, retries
