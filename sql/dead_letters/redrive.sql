-- redrive: make the failed job $1 pending again, in queue $2 and with arguments $3 (null: its own), with the
-- attempt count reset if $4, for reason $5, on behalf of $6; with these it passes the limits in the JSON array $7 (null:
-- its task is not known).

select pgqueue.redrive_through($1, $7::json, $2, $3::json, $4, $5, $6)
