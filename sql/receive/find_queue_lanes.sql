-- find_queue_lanes: the first 1000 lanes of queue $1, by id.

select id from pgqueue.lane where queue = $1 order by id limit 1000
