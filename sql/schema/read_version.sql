-- read_version: the version of the schema, and the oldest version whose code works with the migrations
-- applied after version $1.

select coalesce(max(version), 0) as version,
       coalesce(max(works_with) filter (where version > $1), 0) as works_with
from pgqueue.migration
