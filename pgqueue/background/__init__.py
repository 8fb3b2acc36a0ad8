"""The loops that an open PgQueue runs beside its callers: notifications, watching, reading, statistics.

Callers share them: one listener, and few statements at a time, serve all callers in a process that await or
poll jobs. A loop survives a lost connection and connects again. Notifications are hints, and reads are the
promise: a job runs without anything in this room, only later. A read never joins a statement that was already
sent, because that statement might miss a change that the caller already knows of.
"""
