"""DATA and KEY=VALUE on the command line, as `evaluate` and `audit` take them."""

from __future__ import annotations

from typing import Any

from textattn.errors import ConfigError


def data_settings(data: str | None, settings: list[str] | None) -> tuple[str | None, dict[str, Any]]:
    """The data, if any were named, and keys of the data section with their values.

    Raises:
        ConfigError: a setting is no key=value.
    """
    from textattn.config.yaml12 import parse_yaml

    if data is not None and "=" in data:
        settings, data = [data, *(settings or [])], None
    values: dict[str, Any] = {}
    for setting in settings or []:
        key, equals, value = setting.partition("=")
        if not equals:
            raise ConfigError(f"expected key=value, got {setting!r}")
        values[key.removeprefix("data.")] = parse_yaml(value, f"override {setting!r}").value
    return data, values
