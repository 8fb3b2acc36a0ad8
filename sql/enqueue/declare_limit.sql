-- declare_limit: declare limit $1 with $2 slots, or null and a rate of $4 a second with burst $5, and $3 for what becomes
-- of jobs that a full one does not let through.

select pgqueue.declare_limit($1::text, $2::text::integer, $3::text, $4::text::float8, $5::text::integer)::text
