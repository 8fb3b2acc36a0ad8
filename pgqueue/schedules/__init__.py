"""Schedules: when jobs are enqueued by themselves. What is decided here is decided on values.

`rule` says at which times a schedule ticks, `ticks` which of them get jobs now, `definition` what a schedule
may be, `ticker` which jobs its ticks become. The chore "ticking" of the upkeep, and `pgq.schedules`, use
them.
"""
