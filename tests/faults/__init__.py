"""Faults: processes and servers are disturbed, and what they noted is held against the database in the end.

`python -m tests.faults --minutes 30 --seed 7` disturbs at random, `--only kill,restart` runs scenarios alone,
`--figures` runs what has bars, and prints their table. What lives here:

* `app`, `enqueuer`: the program under test. Each process appends what it sees to its own file (`records`).
* `servers`, `processes`, `laboratory`: a server, workers and enqueuers that can be disturbed.
* `scenarios/`: a file for each fault. `mixed`: all of them at random.
* `evidence`, and `checker` with its rules: what must never be, read from the records and the database.
"""
