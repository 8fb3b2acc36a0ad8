"""The options of jobs: declared, checked, merged over the levels where they can be set, resolved.

All of it is pure and happens before any I/O, so an option that cannot be is an error at the declaration or
at the call, and never in a worker. An option that a level does not set is absent there, which differs from
None: a level that says nothing must not hide what a wider level says.
"""
