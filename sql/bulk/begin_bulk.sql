-- begin_bulk: begin bulk operation $1, which does $2 to the jobs that match filter $3, or to the jobs $4; $5 were
-- expected; for reason $6, on behalf of $7. No row back: it has been begun before.

insert into pgqueue.bulk (id, verb, filter, job_ids, expected, reason, actor)
values ($1, $2, $3::json, $4::uuid[], $5, $6, coalesce($7, session_user))
on conflict (id) do nothing
returning id
