-- make_migration_table: the table of applied migrations; two statements, no parameters.

create schema if not exists pgqueue;

create table if not exists pgqueue.migration (
    version    integer primary key,
    name       text not null,
    works_with integer not null,          -- the oldest version whose code works with this one's schema
    applied_at timestamptz not null default now()
)
