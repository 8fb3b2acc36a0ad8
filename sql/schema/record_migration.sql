-- record_migration: record that migration $1, named $2, was applied; its schema works with code from version $3.

insert into pgqueue.migration (version, name, works_with) values ($1, $2, $3)
