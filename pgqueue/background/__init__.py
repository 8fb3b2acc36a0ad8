"""The loops that an open PgQueue runs beside its callers: notifications, watching, reading, statistics.

Callers share them: however many await or poll jobs in a process, one listener and one statement at a time
serve all of them. A loop outlives a lost connection and connects again. A notification is a hint and a read
is the promise: nothing here may be needed for a job to run, only for it to run soon. A read never joins a
statement that was sent already, because that might miss a change that its caller already knows of.
"""
