"""The values that everything else speaks of: jobs, statuses, outcomes, filters, measures, ids.

They know no database and no event loop, and decide nothing that needs one. A value that was handed out
never changes under its reader, also in another thread.
"""
