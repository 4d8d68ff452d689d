"""DATA and KEY=VALUE on the command line, as `evaluate` and `audit` take them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from textattn.errors import ConfigError


def data_settings(data: str | None, settings: list[str] | None) -> tuple[str | None, dict[str, Any]]:
    """The data, if any were named, and keys of the data section with their values.

    Raises:
        ConfigError: a setting is no key=value.
    """
    from textattn.config import override_value

    if data is not None and "=" in data and not Path(data).exists():
        settings, data = [data, *(settings or [])], None
    values: dict[str, Any] = {}
    for setting in settings or []:
        key, equals, value = setting.partition("=")
        if not equals:
            raise ConfigError(f"expected key=value, got {setting!r}")
        name = key.strip().removeprefix("data.")
        try:
            values[name] = override_value(("data", name), value)
        except ConfigError as error:
            raise ConfigError(f"override {setting!r}: {error.message}") from None
    return data, values
