"""Ask the database of advisories about all locked versions, and about the oldest versions that are allowed.

`make audit` writes the answers into `advisories.json`, which a test reads without a network: no advisory may
name a locked version or a lower bound of `pyproject.toml`. If the database gives no answer for a package,
nothing is written, because a missing answer does not prove that a package is safe.
"""

from __future__ import annotations

import datetime
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

HERE = Path(__file__).parent
ROOT = HERE.parent
FILE = HERE / "advisories.json"


def locked() -> dict[str, Version]:
    """Read the locked version of each package. Torch is in no lock file; the constraints name its version."""
    found: dict[str, Version] = {}
    for path in [ROOT / "constraints.txt", *sorted(HERE.glob("*.txt"))]:
        for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", path.read_text("utf-8"), re.MULTILINE):
            found[canonicalize_name(name)] = Version(version)
    return found


def floors() -> dict[str, Version]:
    """Read the oldest version of each package that `pyproject.toml` allows, where it names one."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lines = [
        *project["dependencies"],
        *(one for extra in project["optional-dependencies"].values() for one in extra),
    ]
    found: dict[str, Version] = {}
    for requirement in map(Requirement, lines):
        for bound in requirement.specifier:
            if bound.operator in {">=", "=="}:
                name, version = canonicalize_name(requirement.name), Version(bound.version)
                found[name] = min(version, found.get(name, version))
    return found


def problems(told: dict[str, Any], versions: dict[str, Version], what: str) -> list[str]:
    """Return the problems of these versions by the advisories in `told`, without the accepted advisories."""
    found = []
    for advisory in told["advisories"]:
        version = versions.get(canonicalize_name(advisory["package"]))
        fixed = advisory["fixed"]
        if version is None or advisory["id"] in told["accepted"]:
            continue
        if fixed is None or version < Version(fixed):
            cure = f"take {fixed} or newer" if fixed else "no release mends it"
            found.append(f"{what} {advisory['package']} {version}: {advisory['id']}, {cure}")
    return found


def ask(pip_audit: str, versions: dict[str, Version]) -> list[dict[str, Any]]:
    """Return the advisories that name one of these versions.

    Raises:
        SystemExit: pip-audit failed, or the database gave no answer for a package.
    """
    with tempfile.TemporaryDirectory() as scratch:
        asked = Path(scratch) / "asked.txt"
        asked.write_text("".join(f"{name}=={version}\n" for name, version in versions.items()), "utf-8")
        options = ["--requirement", str(asked), "--no-deps", "--disable-pip", "--format", "json"]
        done = subprocess.run([pip_audit, *options], text=True, capture_output=True)
    try:
        told = json.loads(done.stdout)["dependencies"]
    except ValueError:
        raise SystemExit(f"pip-audit failed, advisories.json is as it was: {done.stderr.strip()}") from None
    if silent := [one["name"] for one in told if "skip_reason" in one]:
        raise SystemExit(
            f"the database did not answer for {len(silent)} of {len(told)} packages "
            f"({', '.join(silent[:5])}, ...): advisories.json is as it was; run it where PyPI is reached"
        )
    return [
        {
            "package": one["name"],
            "id": advisory["id"],
            "aliases": advisory["aliases"],
            "fixed": oldest(advisory),
        }
        for one in told
        for advisory in one["vulns"]
    ]


def oldest(advisory: dict[str, Any]) -> str | None:
    """Return the release from which on the fault is corrected: the newest of the fixes; None without one."""
    return str(max(map(Version, advisory["fix_versions"]))) if advisory["fix_versions"] else None


def main(pip_audit: str) -> None:
    """Ask the database, and add its answers to the known advisories in the file."""
    told = json.loads(FILE.read_text("utf-8"))
    known = {(one["package"], one["id"]): one for one in told["advisories"]}
    for versions in (locked(), floors()):
        known |= {(one["package"], one["id"]): one for one in ask(pip_audit, versions)}
    told["asked"] = datetime.datetime.now(datetime.UTC).date().isoformat()
    told["locked"] = {name: str(version) for name, version in sorted(locked().items())}
    told["advisories"] = [known[key] for key in sorted(known)]
    FILE.write_text(json.dumps(told, indent=2) + "\n", "utf-8")
    found = problems(told, locked(), "locked:") + problems(told, floors(), "lower bound:")
    print("\n".join(found) or "no advisory names what is locked, or a lower bound")
    raise SystemExit(1 if found else 0)


if __name__ == "__main__":
    main(sys.argv[1])
