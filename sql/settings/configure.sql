-- configure: let task $1 run with options $2 (null: those of its declaration only), for actor $3 and reason $4.

insert into pgqueue.setting (kind, name, options, actor, reason)
values ('task', $1, $2::json, $3, $4)
on conflict (kind, name) do update
set options = excluded.options, actor = excluded.actor, reason = excluded.reason, changed_at = now()
