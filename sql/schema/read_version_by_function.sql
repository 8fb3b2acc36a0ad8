-- read_version_by_function: as read_version, for a role that may not read the migrations applied after version $1.

select version, works_with from pgqueue.read_version($1)
