-- end_chore: end chore $1 of holder $2, so that any worker may begin it again after $3 from now.

update pgqueue.chore
set holder = gen_random_uuid(), until_at = now() + $3::interval
where name = $1
  and holder = $2
