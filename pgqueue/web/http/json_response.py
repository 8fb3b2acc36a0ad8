"""JSON responses, whatever text is in them."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse

from pgqueue.web.http.etags import encode


class JsonResponse(JSONResponse):
    """A JSON document in ASCII: jobs can have lone surrogates in them, which have no UTF-8."""

    def render(self, content: Any) -> bytes:
        """Return the document's bytes."""
        return encode(content)[0].encode("ascii")
