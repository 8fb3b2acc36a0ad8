"""Who may do what: the guard around the app, access, login sessions, and the origin of requests.

Whatever fails here is a refusal: a hook that raises, an answer that is not a bool, a header that is
missing. A request that a page of another site may have made a browser send never reaches the service's own
hook, because the browser adds the user's cookies to it.
"""
