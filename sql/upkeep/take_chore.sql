-- take_chore: begin chore $1 as $2, for $3 from now, or keep it.
--
-- No row back: another worker has it, or it is not due.

insert into pgqueue.chore (name, holder, until_at)
values ($1, $2, now() + $3::interval)
on conflict (name) do update
set holder = excluded.holder, until_at = excluded.until_at
where chore.until_at <= now() or chore.holder = excluded.holder
returning name
