"""Tasks, and what a caller or a handler holds of them: signatures, handles, the context of a running job.

Knows no database: what runs a handler gives its context the services that need one. Arguments are checked
where the call is made, and once more where they are read, because the code on the two sides may not be the
same.
"""
