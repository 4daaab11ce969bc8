"""What is installed is what was locked, file by file, and no advisory that is known names it."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from requirements import audit, lock

ROOT = Path(__file__).parents[1]
HASHES = r"((?:\n    --hash=sha256:[0-9a-f]{64}(?: \\)?)*)"
PIN = re.compile(rf"^([\w.-]+)==([^\s;]+)([^\n]*){HASHES}", re.MULTILINE)


def entries(name: str) -> list[tuple[str, Version, int]]:
    """Package, version and number of hashes of each entry of a lock file."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text("utf-8")
    found = [(canonicalize_name(m[1]), Version(m[2]), m[4].count("--hash")) for m in PIN.finditer(text)]
    lines = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
    assert len(found) == len(lines)  # no entry of another kind: a URL, an option
    return found


def constraints() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pins = [line.split("==") for line in lines if not line.startswith("#")]
    return {canonicalize_name(name): Version(version) for name, version in pins}


def asked(extra: str, seen: frozenset[str] = frozenset()) -> list[Requirement]:
    """What an extra asks for, with the base install and its own extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    found = [Requirement(line) for line in project["dependencies"]]
    for requirement in map(Requirement, project["optional-dependencies"][extra]):
        if requirement.name == "paramcast":
            found += [one for inner in requirement.extras - seen for one in asked(inner, seen | {extra})]
        else:
            found.append(requirement)
    return found


@pytest.mark.parametrize("name", sorted(lock.LOCKS))
def test_every_locked_package_has_hashes_and_the_version_of_the_constraints(name: str) -> None:
    known = constraints()
    for package, version, hashes in entries(name):
        assert hashes > 0, package
        assert known[package] == version, f"{package}: make lock"


@pytest.mark.parametrize("extra", ["dev", "server", "ray"])
def test_locks_hold_all_that_is_asked_for(extra: str) -> None:
    locked = {package: version for package, version, _ in entries(extra)}
    for requirement in asked(extra):
        if requirement.name == "torch":
            continue  # its build depends on the machine
        version = locked.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement}: make lock"
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement}: make lock"


def test_every_constraint_is_of_something_that_is_locked() -> None:
    locked = {package for name in lock.LOCKS for package, _, _ in entries(name)}
    assert constraints().keys() - locked == {"torch"}


def test_what_makes_and_tests_install_is_checked_by_hash() -> None:
    """Every `pip install` of the Makefile and the image takes hashes, but for this checkout and torch."""
    for file in ("Makefile", "deploy/Containerfile"):
        text = (ROOT / file).read_text("utf-8").replace("\\\n", " ")
        commands = re.findall(r"pip (?:install|\$\(LOCKED\)|\$\(TORCH\))[^\n&]*", text)
        assert commands
        for command in commands:
            own = re.search(r"--no-deps --no-build-isolation.* (-e )?\.$", command.strip())
            assert (
                own
                or re.search(r"\$\((LOCKED|TORCH)\)", command)
                or "--require-hashes" in command
                or "pip-audit" in command
            ), command


def advisories() -> dict:
    return json.loads(audit.FILE.read_text("utf-8"))


def test_no_known_advisory_names_what_is_locked() -> None:
    assert audit.problems(advisories(), audit.locked(), "locked:") == []


def test_no_known_advisory_names_a_release_that_is_allowed() -> None:
    assert audit.problems(advisories(), audit.floors(), "lower bound:") == []


def test_an_advisory_is_heard_and_what_is_accepted_has_a_reason_and_a_package() -> None:
    told = advisories()
    found = audit.problems(told, {"starlette": Version("1.0.1")}, "locked:")
    assert any("CVE-2026-54283, take 1.3.1 or newer" in line for line in found)
    without = audit.problems({**told, "accepted": {}}, audit.locked(), "locked:")
    assert {line.split(": ")[2].split(",")[0] for line in without} == set(told["accepted"])
    assert all(len(reason) > 40 for reason in told["accepted"].values())


def test_an_audit_of_other_versions_does_not_count() -> None:
    """Where the database was asked, it was asked about what is locked now."""
    told = advisories()
    if told["asked"]:
        assert told["locked"] == {name: str(version) for name, version in sorted(audit.locked().items())}, (
            "make audit"
        )


def test_a_database_that_does_not_answer_is_no_clean_bill(tmp_path: Path) -> None:
    silent = tmp_path / "pip-audit"
    said = {"dependencies": [{"name": "numpy", "skip_reason": "not found"}]}
    silent.write_text(f"#!{sys.executable}\nprint({json.dumps(json.dumps(said))})\n", "utf-8")
    silent.chmod(0o755)
    before = audit.FILE.read_bytes()
    with pytest.raises(SystemExit, match="did not answer for 1 of 1 packages"):
        audit.main(str(silent))
    assert audit.FILE.read_bytes() == before
