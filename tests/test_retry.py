"""When and whether a failed attempt is tried again."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

import pytest
from conftest import eventually
from hypothesis import given
from hypothesis import strategies as st

from pgqueue import JobContext, JobFailed, JobStatus, PgQueue
from pgqueue.options import DEFAULTS, Policy, TaskOptions
from pgqueue.retry import Jitter, RetryPolicy

if TYPE_CHECKING:
    from typing_extensions import Unpack

DSN = "postgresql://nowhere/none"
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
