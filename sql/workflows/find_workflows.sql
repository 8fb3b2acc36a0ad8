-- find_workflows: those of the ids $1 that are workflows'.

select id::pg_catalog.text as id from pgqueue.workflow where id operator(pg_catalog.=) any($1::pg_catalog.text::pg_catalog.uuid[])
