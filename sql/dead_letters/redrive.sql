-- redrive: make the failed job $1 pending again, in queue $2 and with arguments $3 (null: its own), with the
-- attempt count reset if $4, for reason $5, on behalf of $6.

select pgqueue.redrive($1, $2, $3::json, $4, $5, $6)
