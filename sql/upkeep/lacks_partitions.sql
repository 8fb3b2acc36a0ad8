-- lacks_partitions: whether today, or one of the next $1 days, has no partition.

select exists (
    select from generate_series(0, $1::integer) as day (ahead)
    where to_regclass('pgqueue.job_' || to_char(
        (now() + make_interval(hours => 24 * day.ahead)) at time zone 'UTC', 'YYYYMMDD')) is null
)
