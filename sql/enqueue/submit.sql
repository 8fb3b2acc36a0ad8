-- submit: have the owner's function write the jobs of the calls in the JSON array $1.
--
-- For a role that may not write the tables. Returns what there is to say of a job beyond that it was made.

select job_id::text as id, outcome, holder::text as holder, agrees::text as agrees, was, now
from pgqueue.submit($1::text::json) as told
