"""From calls to durable jobs: batches, idempotency keys, writing, and events that are processed once.

A call is all or nothing, and one that is refused is an error where it is made: on the caller's connection
before anything was written, on pgqueue's own at the latest by a rollback, because the parts of a large call
are checked while those before them are written. There, a write whose reply was lost is made again with the
same ids, so that it cannot make a second job. On the caller's connection nothing is repeated, because the
transaction is the caller's.
"""
