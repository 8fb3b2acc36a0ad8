-- find_schedule_of: the schedule one of whose latest ticks made job $1.

select schedule from pgqueue.tick where job_id = $1 limit 1
