-- 0034 ticked: the schedule of a job is found by the job.
-- works with: 1
-- Workers may keep running.

create index tick_job_id on pgqueue.tick (job_id) where job_id is not null;
