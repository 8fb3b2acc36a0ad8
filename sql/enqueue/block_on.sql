-- block_on: have the new jobs $1 wait, each for the end of the one of jobs $2 in its place.

select pgqueue.wait_for($1::text::uuid[], $2::text::uuid[])
