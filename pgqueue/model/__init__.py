"""The values that all other rooms use: jobs, statuses, outcomes, filters, measures, ids.

They use no database and no event loop, and make no decision that needs one. A value never changes once it was
handed out, so it may be read in other threads.
"""
