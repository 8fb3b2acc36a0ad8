-- has_owner_index: whether there is the index of owners, whatever its name, on all days.

select exists (
    select from pg_catalog.pg_index as found
    where found.indrelid = 'pgqueue.job'::regclass
      and found.indisvalid
      and pg_catalog.pg_get_indexdef(found.indexrelid) like '%((headers ->> ''owner''%)), id)%'
)
