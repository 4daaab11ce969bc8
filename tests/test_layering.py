"""Imports point one way, as docs/architecture.md says; what a device runs needs only the base install."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "paramcast"
EVERYWHERE = {"errors", "files", "installed", "paths", "sqlite", "pictures", "results", ""}
MAY_IMPORT = {
    "protocol": set(),
    "adapters": {"protocol"},
    "hypernet": {"protocol", "adapters"},
    "artifact": {"protocol", "hypernet"},
    "training": {"protocol", "adapters", "hypernet", "artifact"},
    "server": {"protocol", "artifact"},
    "device": {"protocol", "artifact"},
    "video": {"protocol", "adapters", "hypernet", "training", "artifact"},
    "methods": {"protocol", "adapters", "hypernet", "training", "artifact", "video"},
}
MAY_IMPORT["bench"] = set(MAY_IMPORT)
MAY_IMPORT["cli"] = set(MAY_IMPORT)
BASE_PACKAGES = {
    "numpy",
    "onnxruntime",
    "tokenizers",
    "safetensors",
    "nacl",
    "httpx2",
    "click",
    "packaging",
    "tqdm",
}


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Every imported module, and whether importing the file imports it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    at_once = {id(node) for node in ast.walk(tree) for node in _unconditional(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((name.name, id(node) in at_once) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield str(node.module), id(node) in at_once


def _unconditional(node: ast.AST) -> list[ast.stmt]:
    return node.body if isinstance(node, ast.Module) else []


def part_of(module: str) -> str:
    return ".".join(module.split(".")[1:2])


def files_of(part: str) -> list[Path]:
    return sorted((SOURCE / part).rglob("*.py"))


def test_every_part_has_its_rule() -> None:
    folders = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert folders == set(MAY_IMPORT)


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_a_part_imports_only_what_is_below_it(part: str) -> None:
    wrong = [
        f"{path.relative_to(SOURCE)} imports {module}"
        for path in files_of(part)
        for module, _ in imports(path)
        if module.split(".")[0] == "paramcast"
        and part_of(module) not in MAY_IMPORT[part] | EVERYWHERE | {part}
    ]
    assert not wrong


NEED_TORCH = {
    f"artifact/{name}.py" for name in ("calling", "trace", "operators", "write", "hypernetwork_graph")
}
"""Files of the artifact that write it; those that read it do not."""


def test_what_is_installed_imports_nothing_that_is_not() -> None:
    wrong = [
        f"{path.relative_to(SOURCE)} imports {module}"
        for path in sorted(SOURCE.rglob("*.py"))
        for module, _ in imports(path)
        if module.split(".")[0] in ("experiments", "tests")
    ]
    assert not wrong


@pytest.mark.parametrize("part", ["protocol", "artifact", "device", "cli"])
def test_the_base_install_is_enough_to_import_it(part: str) -> None:
    known = BASE_PACKAGES | sys.stdlib_module_names | {"paramcast"}
    wrong = [
        f"{path.relative_to(SOURCE)} imports {module}"
        for path in files_of(part)
        if path.relative_to(SOURCE).as_posix() not in NEED_TORCH
        for module, at_once in imports(path)
        if at_once and module.split(".")[0] not in known
    ]
    assert not wrong


def test_the_base_packages_are_those_that_are_declared() -> None:
    text = (SOURCE.parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    declared = text.split("\ndependencies = [")[1].split("]\n")[0]
    names = {"pynacl" if name == "nacl" else name for name in BASE_PACKAGES}
    assert all(f'"{name}>=' in declared for name in names)
    assert declared.count(">=") == len(names)
