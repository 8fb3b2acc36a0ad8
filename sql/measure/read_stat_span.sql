-- read_stat_span: the present time, and for how many seconds, $1 at most, there are statistics.

select now() as now,
       coalesce((
           select least(extract(epoch from $1::interval), extract(epoch from now() - stat.at) + stat.seconds)
           from pgqueue.stat order by stat.at limit 1
       ), 0)::float8 as seconds
