-- begin_redrive: begin mass redrive $1 of the dead letters that match filter $2, at $3 per second, into queue $4
-- (null: their own), with the attempt count reset if $5, for reason $6, on behalf of $7, counting to $8.

select pgqueue.begin_redrive($1, $2::json, $3, $4, $5, $6, $7, $8)
