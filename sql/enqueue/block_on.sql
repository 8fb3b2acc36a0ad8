-- block_on: block the new jobs $1, each until the job at its place in $2 has ended.

select pgqueue.wait_for($1::text::uuid[], $2::text::uuid[])
