"""What a config with very many things in it costs: work that grows with their number, and no faster."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from textattn.config import config_from_mapping, load_config
from textattn.errors import ConfigError

DATA: dict[str, Any] = {"path": "reviews.csv"}
CASES: dict[str, Callable[[int], tuple[dict[str, Any], list[str]]]] = {
    "unknown keys": lambda n: ({"data": DATA, **{f"key{i}": 1 for i in range(n)}}, []),
    "unknown sections": lambda n: ({"data": DATA, **{f"key{i}": {"a": 1} for i in range(n)}}, []),
    "unknown keys of a section": lambda n: ({"data": DATA, "training": {f"epoch{i}": 1 for i in range(n)}}, []),
    "wrong items": lambda n: ({"data": DATA | {"label_names": [*range(n)]}}, []),
    "wrong values": lambda n: ({"data": DATA, "training": {"class_weights": {f"k{i}": "x" for i in range(n)}}}, []),
    "overrides": lambda n: ({"data": DATA}, [f"training.class_weights.k{i}=1" for i in range(n)]),
    "wrong overrides": lambda n: ({"data": DATA}, [f"key{i}=1" for i in range(n)]),
    "overrides without =": lambda n: ({"data": DATA}, [f"key{i}" for i in range(n)]),
    "overridden again": lambda n: (
        {"data": DATA, "training": {"class_weights": {f"k{i}": 2.0 for i in range(n)}}},
        [f"training.class_weights.k{i}=1" for i in range(n)],
    ),
    "a long list": lambda n: ({"data": DATA}, [f"data.text=[{','.join(f'a{i}' for i in range(n))}]"]),
}


def lines_of(action: Callable[[], object]) -> int:
    """The number of lines of Python that are run."""
    lines = 0

    def trace(frame: Any, event: str, argument: Any) -> Any:
        nonlocal lines
        lines += event in ("line", "call")
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    finally:
        sys.settrace(before)
    return lines


def load(values: dict[str, Any], overrides: list[str]) -> None:
    try:
        config_from_mapping(values, overrides)
    except ConfigError as error:
        assert len(error.problems) <= 101


@pytest.mark.parametrize("case", CASES)
def test_the_work_of_a_config_is_linear(case: str) -> None:
    load(*CASES[case](10))  # what is computed once
    small, large = (lines_of(lambda n=n: load(*CASES[case](n))) for n in (400, 1600))  # type: ignore[misc]
    assert large < 4.8 * small


def test_quadratic_work_would_be_noticed() -> None:
    def pairs(n: int) -> None:
        for i in range(n):
            for j in range(n):
                assert i + j >= 0

    assert lines_of(lambda: pairs(80)) > 4.8 * lines_of(lambda: pairs(20))


def test_only_some_unknown_keys_are_compared_with_the_known_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = 0

    def count(*arguments: Any, **options: Any) -> list[str]:
        nonlocal compared
        compared += 1
        return []

    monkeypatch.setattr(difflib, "get_close_matches", count)
    config = tmp_path / "x.yaml"
    config.write_text("data: {path: x.csv}\n" + "".join(f"key{i}: 1\n" for i in range(2000)))
    with pytest.raises(ConfigError) as caught:
        load_config(str(config))
    lines = caught.value.message.splitlines()
    assert compared == 100 and len(lines) == 101 and lines[-1] == "and 1,900 more problems"
