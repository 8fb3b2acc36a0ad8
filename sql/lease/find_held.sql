-- find_held: the first job of lease $1, except $2.

select job_id from pgqueue.running where lease_id = $1 and job_id <> all($2::uuid[]) order by job_id limit 1
