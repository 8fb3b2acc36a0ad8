"""Jobs at times, which RQ has in a file for a scheduler: here they are declared, and workers make them."""

from __future__ import annotations

from typing import NoReturn

from pgqueue.compat import not_there
from pgqueue.compat.missing import Lacking

_WAY = 'declare a schedule: @pgq.schedule("0 9 * * *"), or await pgq.schedules.create(...)'


def register(*_: object, **__: object) -> NoReturn:
    """Raise NotImplementedError."""
    raise not_there("cron.register", _WAY)


class CronScheduler(Lacking):
    """Not there."""

    def __init__(self, *_: object, **__: object) -> None:
        raise not_there("CronScheduler", _WAY)
