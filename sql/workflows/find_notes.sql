-- find_notes: the first $1 notes except $2.

select id from pgqueue.note where id <> all($2::bigint[]) order by id limit $1
