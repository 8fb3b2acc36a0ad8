-- declare_ordered: declare ordered group $1, and what becomes of the jobs behind one that has failed: $2.

select pgqueue.declare_ordered($1::text, $2::text)::text
