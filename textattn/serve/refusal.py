"""The errors of the server, as HTTP statuses and JSON: `{"error": {"message": …, "hint": …}}`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from textattn.errors import InputError, TextattnError


class Refusal(Exception):
    """A request that is not answered."""

    def __init__(
        self, status: int, message: str, hint: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.hint = hint
        self.headers = dict(headers or {})

    @classmethod
    def of(cls, error: TextattnError, *, by_input: bool) -> Refusal:
        """The refusal for an error of the product.

        Args:
            by_input: whether the error is about the request. If not, an InputError is about the files of the model.
        """
        status = 500 if isinstance(error, InputError) and not by_input else 422
        return cls(status, error.message, error.hint)

    def response(self) -> Response:
        """The answer that says it."""
        error = {"message": self.message} | ({} if self.hint is None else {"hint": self.hint})
        return json_response({"error": error}, self.status, self.headers)


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A value as JSON in UTF-8."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # A lone surrogate, which a message may repeat, is written as JSON's own escape.
    content = text.encode("utf-8", "backslashreplace")
    return Response(content, status, headers, media_type="application/json")
