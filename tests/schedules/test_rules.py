"""When schedules tick: a pure function of rules and times."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from pgqueue import ConfigurationError, InvalidOptionError
from pgqueue.schedules import cron as cron_module
from pgqueue.schedules.rule import Rule
from pgqueue.schedules.ticks import MOST, due

pytestmark = pytest.mark.contract("P8.10")

PARIS, YORK, HOWE = "Europe/Paris", "America/New_York", "Australia/Lord_Howe"
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
CHANGES = {
    PARIS: [date(2026, 3, 29), date(2026, 10, 25)],
    YORK: [date(2026, 3, 8), date(2026, 11, 1)],
    HOWE: [date(2026, 4, 5), date(2026, 10, 4)],
    "America/Santiago": [date(2026, 4, 5), date(2026, 9, 6)],
    # Changes around Ramadan; by two hours; at midnight; a day that the calendar leaves out.
    "Africa/Casablanca": [date(2026, 2, 15), date(2026, 3, 22)],
    "Antarctica/Troll": [date(2026, 3, 29), date(2026, 10, 25)],
    "Africa/Cairo": [date(2026, 4, 24), date(2026, 10, 30)],
    "Pacific/Apia": [date(2011, 12, 30), date(2011, 4, 2)],
    "Asia/Kolkata": [date(2026, 6, 1)],
    "UTC": [date(2026, 2, 28)],
}
"""Days on which clocks are put forward or back."""


def read(**given: Any) -> Rule:
    return Rule.read("schedule 'x'", given)


def local(rule: Rule, moment: datetime, count: int) -> list[str]:
    return [f"{tick:%d. %H:%M%z}" for tick in rule.coming(moment, count)]


@pytest.mark.parametrize(
    ("zone", "cron", "since", "expected"),
    [
        # Skipped: at the first minute after the gap. Repeated: in the first pass.
        (PARIS, "30 2 * * *", (2026, 3, 28, 12), ["29. 03:00+0200", "30. 02:30+0200"]),
        (PARIS, "30 2 * * *", (2026, 10, 24, 12), ["25. 02:30+0200", "26. 02:30+0100"]),
        (YORK, "30 2 * * *", (2026, 3, 7, 12), ["08. 03:00-0400", "09. 02:30-0400"]),
        (YORK, "30 1 * * *", (2026, 10, 31, 12), ["01. 01:30-0400", "02. 01:30-0500"]),
        (HOWE, "15 2 * * *", (2026, 10, 3, 12), ["04. 02:30+1100", "05. 02:15+1100"]),
        (HOWE, "45 1 * * *", (2026, 4, 4, 12), ["05. 01:45+1100", "06. 01:45+1030"]),
        # Wildcard minutes or hours: in both passes.
        (
            PARIS,
            "0 * * * *",
            (2026, 10, 25, 1, 30),
            ["25. 02:00+0200", "25. 02:00+0100", "25. 03:00+0100"],
        ),
        (HOWE, "*/30 1 * * *", (2026, 4, 5, 1, 10), ["05. 01:30+1100", "05. 01:30+1030", "06. 01:00+1030"]),
    ],
)
def test_a_time_that_a_change_of_clocks_skips_comes_after_it_and_one_it_repeats_comes_once(
    zone: str, cron: str, since: tuple[int, ...], expected: list[str]
) -> None:
    rule = read(cron=cron, timezone=zone)

    moment = datetime(*since, tzinfo=ZoneInfo(zone))  # type: ignore[arg-type, misc]

    assert local(rule, moment, len(expected)) == expected


def brute_force(cron: str, zone: str, start: datetime, end: datetime) -> list[datetime]:
    """Walk minute by minute: wall times that are there, in both passes with a wildcard; gaps at their end."""
    tz, fields = ZoneInfo(zone), cron.split()
    reader = CronSim(cron, datetime(2026, 1, 1, tzinfo=UTC))
    is_wild = fields[0].startswith("*") or fields[1].startswith("*")

    def fits(wall: datetime) -> bool:
        return (
            wall.minute in reader.minutes
            and wall.hour in reader.hours
            and wall.month in reader.months
            and reader.match_day(wall.date())
        )

    found: list[datetime] = []
    seen: set[datetime] = set()
    before: datetime | None = None
    moment = start - 2 * DAY
    while moment <= end:
        wall = moment.astimezone(tz).replace(tzinfo=None, fold=0)
        gap: list[datetime] = [] if before is None else [
            before + n * MINUTE for n in range(1, int((wall - before) / MINUTE))
        ]  # fmt: skip
        is_new = wall not in seen
        seen.add(wall)
        if (fits(wall) and (is_wild or is_new)) or (not is_wild and any(map(fits, gap))):
            found.append(moment)
        before, moment = wall, moment + MINUTE
    return [tick for tick in found if start < tick <= end]


CRONS = st.builds(
    "{} {} {} * {}".format,
    st.sampled_from(["0", "30", "15,45", "*/10", "*", "59", "7-9"]),
    st.sampled_from(["*", "*/2", "1", "2", "0-3", "0,2,23", "3"]),
    st.sampled_from(["*", "*/2", "1-7", "L"]),
    st.sampled_from(["*", "0", "1-5", "7"]),
)


@settings(max_examples=25)
@given(CRONS, st.sampled_from(sorted(CHANGES)), st.data())
def test_ticks_are_those_of_a_walk_minute_by_minute_over_changes_of_clocks(
    cron: str, zone: str, data: st.DataObject
) -> None:
    day = data.draw(st.sampled_from(CHANGES[zone]))
    start = datetime(day.year, day.month, day.day, tzinfo=UTC) - DAY
    start += timedelta(minutes=data.draw(st.integers(0, 2 * 1440)))
    end = start + 2 * DAY
    rule = read(cron=cron, timezone=zone)

    ticks = []
    for tick in rule.after(start):
        if tick > end:
            break
        ticks.append(tick)

    assert ticks == brute_force(cron, zone, start, end)
    assert all(a < b for a, b in zip([start, *ticks], ticks, strict=False))
    # Wherever it is asked from, the next one is the same.
    assert all(rule.next_after(a) == b for a, b in zip([start, *ticks], ticks, strict=False))


def test_intervals_count_from_a_fixed_origin_so_all_workers_agree() -> None:
    rule = read(every=timedelta(minutes=7))
    now = datetime(2026, 1, 1, 12, 1, 13, tzinfo=UTC)

    [first, second] = islice(rule.after(now), 2)

    assert second - first == timedelta(minutes=7)
    assert rule.next_after(now + timedelta(seconds=1)) == first
    start = datetime(2026, 1, 1, 12, 0, 30, tzinfo=UTC)
    assert read(every=60, starts_at=start).next_after(start - DAY) == start


def test_a_start_and_an_end_bound_the_ticks() -> None:
    start, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    rule = read(cron="0 */12 * * *", starts_at=start, ends_at=end)

    assert list(rule.after(start - DAY)) == [start, start + DAY / 2, end]
    assert list(read(at=start).after(start - DAY)) == [start]
    assert list(read(at=start).after(start)) == []


ROUND = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("misfire", "late", "expected", "missed"),
    [
        ("once", timedelta(hours=3), [180], 3 * 6),
        ("skip", timedelta(hours=3, minutes=5), [], 3 * 6 + 1),
        ("skip", timedelta(seconds=30), [0], 0),
        ("all", timedelta(minutes=25), [0, 10, 20], 0),
        ("all", timedelta(hours=3), [130, 140, 150, 160, 170, 180], 13),
    ],
)
def test_of_ticks_that_no_worker_saw_the_misfire_policy_says_which_get_jobs(
    misfire: str, late: timedelta, expected: list[int], missed: int
) -> None:
    rule = read(every=600)
    catch_up = timedelta(minutes=59)

    found = due(rule, ROUND, ROUND + late, misfire, catch_up)

    assert found.ticks == [ROUND + timedelta(minutes=n) for n in expected]
    assert found.missed == missed
    assert found.next_at is not None
    assert ROUND + late < found.next_at <= ROUND + late + timedelta(minutes=10)


def test_years_without_a_worker_are_made_up_for_within_a_bound_and_not_walked_through() -> None:
    now = ROUND + timedelta(days=3 * 365)

    for rule in (read(cron="* * * * *", timezone=PARIS), read(every=1)):
        found = due(rule, ROUND, now, "all", timedelta(days=9999))
        assert (len(found.ticks), found.missed, found.ticks[-1]) == (MOST, 0, now)


@pytest.mark.parametrize(
    "given",
    [
        *({"cron": text} for text in (
            "", "x", "0 0 30 2 *", "30 2 31 2 *", "61 * * * *", "* * * *", "* * * * * * *", "a\0b",
            "*" * 10_000,
            "1/" * 90 + "1 * * * *", "\ud800 * * * *", "L/2 * * * *", "* * * * \u00b2L", "@reboot", 5, b"x",
        )),
        *({"every": value} for value in (0, -1, 0.5, float("nan"), float("inf"), 1e300, 10**400, True, "1",
                                         timedelta.max)),
        *({"cron": "* * * * *", "timezone": zone} for zone in (
            "Europe/Atlantis", "", "../etc/passwd", "/etc/passwd", "Europe", "x" * 10_000, "localtime",
            5, "\ud800",
        )),
        {"at": datetime(2026, 1, 1)},  # noqa: DTZ001  # this is the mistake
        {"at": "2026-01-01"},
        {},
        {"cron": "* * * * *", "every": 5},
        {"every": 5, "starts_at": ROUND, "ends_at": ROUND - DAY},
    ],
)  # fmt: skip
def test_a_rule_that_cannot_be_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidOptionError):
        read(**given)


def test_leap_days_come_every_four_years_and_names_stand_for_expressions() -> None:
    assert read(cron="0 0 29 2 *").next_after(ROUND) == datetime(2028, 2, 29, tzinfo=UTC)
    assert read(cron="@daily").next_after(ROUND) == ROUND + DAY


def test_a_rule_is_told_in_words() -> None:
    assert (
        read(cron="0 9 * * 1-5", timezone=PARIS).words == "At 09:00 on Monday through Friday (Europe/Paris)"
    )
    for every, words in ((3600, "hour"), (900, "15 minutes"), (1, "second"), (86401.5, "1 day, 1.5 seconds")):
        assert read(every=every).words == f"Every {words}"


def test_without_the_library_cron_says_how_to_install_it_and_the_rest_works(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cron_module, "_library", lambda: None)

    with pytest.raises(ConfigurationError, match=r"pip install 'pgqueue-asyncio\[schedules\]'"):
        read(cron="* * * * *")
    assert read(every=60).next_after(ROUND) == ROUND + MINUTE
    assert read(at=ROUND).next_after(ROUND - DAY) == ROUND
    program = "import sys, pgqueue; sys.exit('cronsim' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
