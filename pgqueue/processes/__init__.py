"""Processes: the supervisor, which restarts worker processes, and the child, which runs isolated attempts.

The supervisor knows neither tasks nor the database, so that nothing that a handler does can take it along.
A worker process ends when its supervisor is gone, and a child when its worker is: none is left over holding
a lease.
"""
