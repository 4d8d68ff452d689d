"""What all sections of a config share: their base class and the types of values."""

from __future__ import annotations

import os
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictFloat, StrictInt, StrictStr

Fraction = Annotated[StrictFloat, Field(ge=0, lt=1)]
# Larger numbers cannot be counted exactly in floating point, and no machine has so many of anything.
LARGEST = 2**53
PositiveInt = Annotated[StrictInt, Field(gt=0, le=LARGEST)]
Count = Annotated[StrictInt, Field(ge=0, le=LARGEST)]
NonNegative = Annotated[StrictFloat, Field(ge=0, allow_inf_nan=False)]
PositiveFloat = Annotated[StrictFloat, Field(gt=0, allow_inf_nan=False)]
Name = Annotated[StrictStr, Field(min_length=1)]


def _path(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not contain the character NUL (\\0)")
    # As a shell does it. In YAML and in `output.dir=~/runs` no shell sees it.
    return os.path.expanduser(text) if text == "~" or text.startswith("~/") else text  # noqa: PTH111 (may be a Hub id)


FileName = Annotated[StrictStr, Field(min_length=1), AfterValidator(_path)]
"""A path of a file or folder; `~` at its beginning is the home directory."""
Files = FileName | list[FileName]
SomeFiles = FileName | Annotated[list[FileName], Field(min_length=1)]


class Section(BaseModel):
    """The base of all sections: unknown keys are errors, and values cannot change after validation."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=(), validate_default=True
    )
