-- end_chore: let chore $1, which $2 holds, be begun again by anybody after $3 from now.

update pgqueue.chore
set holder = gen_random_uuid(), until_at = now() + $3::interval
where name = $1
  and holder = $2
