-- find_hidden: whether the schema is there, whether this role may use it, and the tables whose rows row-level
-- security may hide from this role.

select (select true from pg_catalog.pg_namespace where nspname = 'pgqueue') is not null as is_there,
       coalesce((select pg_catalog.has_schema_privilege(oid, 'usage')
                 from pg_catalog.pg_namespace where nspname = 'pgqueue'), false) as is_usable,
       array(
           select pg_class.relname::text
           from pg_catalog.pg_class
           join pg_catalog.pg_namespace on pg_namespace.oid = pg_class.relnamespace
           where pg_namespace.nspname = 'pgqueue'
             and pg_class.relkind in ('r', 'p')
             and pg_class.relrowsecurity
             and pg_catalog.row_security_active(pg_class.oid)
           order by pg_class.relname
       ) as hidden
