-- index_owners: make the index by which the jobs of one owner are found, those whose header `owner` names them.
-- Jobs without headers are not in it.

create index if not exists job_owner on pgqueue.job ((headers ->> 'owner'), id) where headers is not null
