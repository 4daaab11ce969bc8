"""Simulates an installation with one extra only: the other packages are hidden from Python.

An environment for each extra takes minutes to install. But the metadata of the installed packages list what
`pip install 'paramcast[EXTRA]'` installs. A process that finds only these packages behaves in the same way.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_ALONE = """
import json, runpy, sys
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder
from importlib.metadata import MetadataPathFinder
told = json.loads(sys.argv[1])
hidden, allowed = set(told["hidden"]), set(told["allowed"])

class Alone(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in hidden else PathFinder.find_spec(name, path, target)

    @classmethod
    def find_distributions(cls, *given):
        for one in MetadataPathFinder.find_distributions(*given):
            if one.name.lower().replace("_", "-").replace(".", "-") in allowed:
                yield one

sys.meta_path[:] = [BuiltinImporter, FrozenImporter, Alone]
for name in [name for name in sys.modules if name.partition(".")[0] in hidden]:
    del sys.modules[name]  # what .pth files have imported as Python started
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def missing(extra: str) -> str | None:
    """Return a package of the extra ('' is the base install) that is not installed, or None."""
    return next((name for name in closure(extra) if not _installed(name)), None)


@cache
def closure(extra: str) -> frozenset[str]:
    """Return the canonical names of all packages that pip installs for an extra, with all dependencies."""
    found: set[str] = set()
    asked = [Requirement(f"paramcast[{extra}]" if extra else "paramcast")]
    seen: set[tuple[str, str]] = set()
    while asked:
        requirement = asked.pop()
        name = str(canonicalize_name(requirement.name))
        found.add(name)
        for one in ("", *requirement.extras):
            if (name, one) in seen or not _installed(name):
                continue
            seen.add((name, one))
            inner = map(Requirement, metadata.requires(name) or [])
            asked += [each for each in inner if not each.marker or each.marker.evaluate({"extra": one})]
    return frozenset(found)


def _installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


@cache
def _tops() -> dict[str, frozenset[str]]:
    """Map each top-level module to the packages that contain it."""
    return {
        top: frozenset(str(canonicalize_name(name)) for name in names)
        for top, names in metadata.packages_distributions().items()
    }


@cache
def _inside(allowed: frozenset[str]) -> set[str]:
    """Return top-level modules that a package bundles, as Ray does with psutil."""
    files = [path.parts for name in allowed if _installed(name) for path in metadata.files(name) or []]
    return {parts[2] for parts in files if len(parts) > 3 and parts[1] == "thirdparty_files"}


def run_alone(extra: str, script: str, *arguments: object, folder: Path) -> str:
    """Run a script with only the extra installed; return its output.

    Args:
        extra: '' is the base install.
        script: Python code.
        arguments: Arguments of the script.
        folder: Folder in which the script is written and runs.
    """
    allowed = closure(extra)
    inside = _inside(allowed)
    hidden = sorted(top for top, names in _tops().items() if not names & allowed and top not in inside)
    assert {"pytest", "mypy"} <= set(hidden)
    path = folder / f"job_{extra or 'base'}.py"
    path.write_text(script)
    told = json.dumps({"hidden": hidden, "allowed": sorted(allowed)})
    command = [sys.executable, "-c", _ALONE, told, str(path), *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout
