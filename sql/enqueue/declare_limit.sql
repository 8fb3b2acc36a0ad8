-- declare_limit: declare limit $1 with $2 slots, and $3 for what becomes of jobs that a full one does not let through.

select pgqueue.declare_limit($1::text, $2::text::integer, $3::text)::text
