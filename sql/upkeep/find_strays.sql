-- find_strays: those of jobs $1 that fit nowhere, and why: 'no_record', 'no_place', 'two_places', 'ended' (and still
-- standing in a place) or 'no_lane'.
--
-- Every row is reached by its key.

with seen as materialized (
    select given.id,
           (select json_build_array(job.status is null, job.lane) from pgqueue.job where job.id = given.id) as record,
           array(
               select lane from pgqueue.running where job_id = given.id
               union all select lane from pgqueue.ready where job_id = given.id
               union all select lane from pgqueue.scheduled where job_id = given.id
               union all select lane from pgqueue.blocked where job_id = given.id
           ) as places
    from unnest($1::uuid[]) as given (id)
),
judged as (
    select id,
           case
               when record is null then case when places <> '{}' then 'no_record' end
               when not (record ->> 0)::boolean then case when places <> '{}' then 'ended' end
               when places = '{}' then 'no_place'
               when cardinality(places) > 1 then 'two_places'
               when not exists (select from pgqueue.lane where lane.id = places[1])
                 or not exists (select from pgqueue.lane where lane.id = (record ->> 1)::integer) then 'no_lane'
           end as kind
    from seen
)
select id, kind from judged where kind is not null
