-- edit_job: give the waiting job $1 queue $2, priority $3, run time $4 and arguments $5 (null: as they are), for reason
-- $6, on behalf of $7; with these it passes the limits in the JSON array $8 (null: its task is not known).

select pgqueue.edit($1, $2, $3, $4, $5::json, $6, $7, $8::json)
