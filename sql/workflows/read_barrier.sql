-- read_barrier: the barrier of node $1.

select id, is_join, needs, runs_anyway, fail_fast, total, open, failed, state from pgqueue.barrier where id = $1
