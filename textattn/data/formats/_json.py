"""Values as JSON, and values as cells of a text table."""

from __future__ import annotations

import json
import math
from typing import Any


def to_json(value: Any) -> str:
    """A value as JSON, with null for numbers that JSON does not have, and dates and the like as text."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, default=str)
    except ValueError:
        return json.dumps(_finite(value), ensure_ascii=False, allow_nan=False, default=str)


def to_cell(value: Any) -> Any:
    """What stands for a value in a csv file: nothing for None, JSON for lists and objects."""
    if isinstance(value, list | dict):
        return to_json(value)
    return "" if value is None else value


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
