"""From calls to durable jobs: batches, idempotency keys, writing, and events that are processed once.

Everything is decided before the first statement: what a call lacks is an error where it is made. A call is
all or nothing. On a connection of pgqueue's own, a write whose reply was lost is made again with the same
ids, so that it cannot make a second job; on the caller's connection nothing is repeated, because the
transaction is the caller's.
"""
