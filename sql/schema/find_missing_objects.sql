-- find_missing_objects: the places, from 1, of those objects that are not there, of kinds $1, named $2, and, for
-- triggers, on tables $3.

select given.place
from unnest($1::text[], $2::text[], $3::text[]) with ordinality as given (kind, name, of_table, place)
where not case given.kind
    when 'function' then exists (
        select from pg_proc
        where pronamespace = to_regnamespace('pgqueue')::oid and proname::text = given.name)
    when 'type' then exists (
        select from pg_type
        where typnamespace = to_regnamespace('pgqueue')::oid and typname::text = given.name)
    when 'trigger' then exists (
        select from pg_trigger
        join pg_class on pg_class.oid = tgrelid
        where relnamespace = to_regnamespace('pgqueue')::oid and relname::text = given.of_table
          and tgname::text = given.name)
    else exists (
        select from pg_class
        where relnamespace = to_regnamespace('pgqueue')::oid and relname::text = given.name)
end
order by given.place
