-- begin_redrive: begin mass redrive $1 of the dead letters that filter $2 takes in, $3 a second, into queue
-- $4 (null: their own), with their attempts given back if $5, for reason $6, on behalf of $7; count up to $8.

select pgqueue.begin_redrive($1, $2::json, $3, $4, $5, $6, $7, $8)
