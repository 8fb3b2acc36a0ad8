-- make_migration_table: the table of applied migrations, in a schema that may be there already; no parameters. What
-- the transaction makes from now on means what it says, whatever the role's search_path.

set local search_path to pg_catalog, pg_temp;

do $$ begin
    -- Who may not create schemas may not say `if not exists` either.
    if to_regnamespace('pgqueue') is null then
        create schema pgqueue;
    end if;
end $$;

create table if not exists pgqueue.migration (
    version    integer primary key,
    name       text not null,
    works_with integer not null,          -- the oldest version whose code works with this one's schema
    applied_at timestamptz not null default now()
)
