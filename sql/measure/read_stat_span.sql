-- read_stat_span: the time now, and in seconds for how long something has been written down, $1 at most.

select now() as now,
       coalesce((
           select least(extract(epoch from $1::interval), extract(epoch from now() - stat.at) + stat.seconds)
           from pgqueue.stat order by stat.at limit 1
       ), 0)::float8 as seconds
