-- find_settings: those of the settings $1 that the server has.

select name::text from pg_catalog.pg_settings where name = any($1::text[])
