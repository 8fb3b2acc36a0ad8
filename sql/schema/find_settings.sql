-- find_settings: those of the settings $1 that the server has, with their values.

select name::text, setting from pg_catalog.pg_settings where name = any($1::text[])
