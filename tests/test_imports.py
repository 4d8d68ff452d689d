"""What imports what: the layers of the package, and what the command line may load before it has work to do."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import textattn

PACKAGE = Path(textattn.__file__).parent
# From the bottom up: a module may import from its own folder and from those before it, inside functions too.
LAYERS = (
    "errors", "report", "parts", "data.table", "data.formats", "data.folders", "config", "storage", "data", "tokens",
    "measure", "tasks", "model", "training", "inference", "explain", "pages", "export", "runs", "search", "checks",
    "api", "serve", "", "cli", "__main__",
)  # fmt: skip
RANK = {name: rank for rank, name in enumerate(LAYERS)}


def rank_of(module: str) -> int:
    """The layer of a module: that of the longest of its dotted prefixes that has one."""
    while module not in RANK:
        module = module.rpartition(".")[0]
    return RANK[module]


def modules() -> dict[str, Path]:
    """Dotted name below `textattn` -> file."""
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imports_of(file: Path, names: set[str]) -> set[tuple[str, int]]:
    """Modules of the package that a file imports, wherever in it, with the line; TYPE_CHECKING blocks included."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            targets = [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: relative import"
            targets = [(node.module or "", alias.name) for alias in node.names]
        else:
            continue
        for module, name in targets:
            if module.split(".")[0] != "textattn":
                continue
            module = module.removeprefix("textattn").removeprefix(".")
            full = ".".join(part for part in (module, name) if part)
            if name != "__version__":
                found.add((full if full in names else module, node.lineno))
    return found


def test_every_folder_has_a_layer_and_few_modules_stand_outside() -> None:
    assert {name.split(".")[0] for name in modules()} == {name.split(".")[0] for name in RANK}
    assert len(list(PACKAGE.glob("*.py"))) <= 6


def test_imports_point_one_way() -> None:
    names = set(modules())
    wrong = [
        f"{file.relative_to(PACKAGE)}:{line} imports {target or 'textattn'}"
        for name, file in modules().items()
        for target, line in imports_of(file, names)
        if rank_of(target) > rank_of(name)
    ]
    assert wrong == []


def test_no_circles() -> None:
    """Types for annotations aside, no file needs one that needs it."""
    names = set(modules())
    graph = {
        # The root imports its public names from `api` when they are first used.
        name: {target for target, _ in runtime_imports(file, names) if target not in (name, "")} if name else set()
        for name, file in modules().items()
    }
    while graph:
        leaves = {name for name, targets in graph.items() if not targets & set(graph)}
        assert leaves, f"a circle among {sorted(graph)}"
        graph = {name: targets for name, targets in graph.items() if name not in leaves}


def runtime_imports(file: Path, names: set[str]) -> set[tuple[str, int]]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for_types = {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    return {(target, line) for target, line in imports_of(file, names) if line not in for_types}


def test_only_the_command_line_prints() -> None:
    printing = [
        f"{name}:{node.lineno}"
        for name, file in modules().items()
        if name.split(".")[0] != "cli"
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert printing == []


HEAVY = {
    "torch",
    "datasets",
    "rich",
    "pydantic",
    "numpy",
    "tokenizers",
    "pyarrow",
    "sklearn",
    "gensim",
    "huggingface_hub",
}
SHOW = f"""
import atexit, sys
atexit.register(lambda: print("LOADED", *({HEAVY!r} & sys.modules.keys()), file=sys.stderr))
"""


@pytest.mark.parametrize(
    ("arguments", "allowed"), [(["--help"], set()), (["--version"], set()), (["configs", "ls"], {"pydantic"})]
)
def test_what_needs_no_model_loads_no_library(arguments: list[str], allowed: set[str]) -> None:
    script = f"{SHOW}\nimport textattn\nsys.argv[1:] = {arguments}\nfrom textattn.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout
    assert {*done.stderr.split()} <= {"LOADED", *allowed}
