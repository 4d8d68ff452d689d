"""The settings of a run: how they are read, overridden, checked and written."""

from textattn.config.load import (
    config_from_mapping,
    config_title,
    dump_config,
    flat_settings,
    given_settings,
    json_schema,
    load_config,
    name_of,
    shipped_configs,
    with_defaults,
)
from textattn.config.overrides import override_text, override_value
from textattn.config.schema import Config

__all__ = [
    "Config",
    "config_from_mapping",
    "config_title",
    "dump_config",
    "flat_settings",
    "given_settings",
    "json_schema",
    "load_config",
    "name_of",
    "override_text",
    "override_value",
    "shipped_configs",
    "with_defaults",
]
