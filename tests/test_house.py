"""The rules of the house, read from the imports: rooms, arrows, no circle, no file that nobody reads to its end."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("recipe/asymgrpo", "verl_ext", "hydra_plugins", "benchmarks", "examples", "tools")
ALGORITHM = ("config", "curves", "groups", "advantage", "loss_config", "policy_loss", "pooled", "diagnostics")
MOST_LINES = 300


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(path): path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))}
OWN = set(FILES)


def imports(path: Path, everywhere: bool) -> set[str]:
    """Names that a file imports: at its top, or everywhere in it; what is for the type checker only does not count."""
    found: set[str] = set()
    waiting: list[ast.AST] = list(ast.parse(path.read_text(encoding="utf-8")).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        if everywhere or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            waiting += ast.iter_child_nodes(node)
    return found


def own_imports(name: str, everywhere: bool = True) -> set[str]:
    """Modules of this project that a module imports."""
    found = imports(FILES[name], everywhere)
    return {module for module in found if module in OWN} - {name}


@pytest.mark.parametrize("name", FILES)
def test_arrows_point_one_way(name):
    """examples, benchmarks -> verl_ext -> recipe.asymgrpo -> torch; the algorithm knows no room beside it."""
    forbidden: tuple[str, ...] = ()
    if name.startswith("recipe.asymgrpo"):
        forbidden = ("verl_ext", "benchmarks", "hydra_plugins", "examples", "tools")
    elif name.startswith(("verl_ext", "hydra_plugins")):
        forbidden = ("benchmarks", "examples", "tools")
    if name.removeprefix("recipe.asymgrpo.").split(".")[0] in ALGORITHM:
        forbidden += ("recipe.asymgrpo.reward", "recipe.asymgrpo.data", "recipe.asymgrpo.report")
    assert not {module for module in own_imports(name) if module.startswith(forbidden or "\0")}


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("recipe.asymgrpo")])
def test_the_recipe_imports_verl_inside_functions(name):
    """But where a dataclass must subclass verl's."""
    if name != "recipe.asymgrpo.loss_config":
        assert not {module for module in imports(FILES[name], everywhere=False) if module.split(".")[0] == "verl"}


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("verl_ext") and name.count(".") < 2])
def test_the_plugin_loads_nothing_heavy(name):
    """Every process that imports verl loads it; what is heavy waits for a function's first call."""
    if name in ("verl_ext.plugin", "verl_ext.registry", "verl_ext.early_check", "verl_ext.driver_metrics"):
        heavy = {"torch", "numpy", "ray", "vllm", "transformers", "verl", "omegaconf", "hydra", "pyarrow"}
        assert not {module.split(".")[0] for module in imports(FILES[name], everywhere=False)} & heavy


def test_no_import_goes_in_a_circle():
    """Counting imports inside functions too: they hide a circle, they do not end it."""
    depth: dict[str, int] = {}

    def walk(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path[path.index(name) :], name))
        if depth.setdefault(name, 0) == 0:
            for module in sorted(own_imports(name)):
                # A package's __init__ offers what its modules have; they never import it back.
                walk(module, (*path, name))
            depth[name] = 1

    for name in sorted(OWN):
        walk(name, ())


@pytest.mark.parametrize("name", FILES)
def test_no_file_is_too_long_to_read(name):
    assert len(FILES[name].read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def test_tests_mirror_the_rooms():
    """A folder of tests has a room of its name."""
    for folder in {path.parent for path in (ROOT / "tests").rglob("test_*.py")}:
        relative = folder.relative_to(ROOT / "tests")
        if relative.parts and relative.parts[0] != "e2e":
            room = (
                ROOT / "recipe" / "asymgrpo" / Path(*relative.parts[1:])
                if relative.parts[0] == "recipe"
                else ROOT / relative
            )
            assert room.is_dir(), f"tests/{relative} mirrors nothing"


def test_rooms_have_tests():
    """A package of more than its __init__ has a folder of tests, or a file, of its name."""
    for room in ("recipe/asymgrpo", "verl_ext", "benchmarks"):
        tests = ROOT / "tests" / room.removesuffix("/asymgrpo")
        for package in {path.parent for path in (ROOT / room).glob("*/*.py") if path.name != "__init__.py"}:
            assert (tests / package.name).is_dir() or (tests / f"test_{package.name}.py").is_file(), package
