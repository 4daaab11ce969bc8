"""What the repository says of itself is true."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from paramcast.cli import COMMANDS, paramcast

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# A machine's own folders have no place in a repository; written so that this file does not match itself.
MACHINE_PATHS = re.compile(r"(?<![\w.])/(?:work|root|opt|mnt|Users|home/\w+)/\w")


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_file_names_a_place_on_some_machine() -> None:
    found = []
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}: {match.group()}" for match in MACHINE_PATHS.finditer(text)]
    assert not found


def test_no_file_is_too_long_to_read_in_one_sitting() -> None:
    long = [path for path in tracked() if path.suffix == ".py" and path.read_text().count("\n") > 400]
    assert not long


@pytest.mark.slow
def test_the_readme_s_example_runs(tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert len([line for line in blocks[0].splitlines() if line]) <= 15
    command = [sys.executable, "-c", "".join(blocks)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "There is a gain, and it is the device's own update that makes it." in done.stdout
    assert re.search(r"^adapted [01]\.", done.stdout, re.MULTILINE)


def test_the_readme_s_table_has_every_command_and_no_other() -> None:
    table = re.findall(r"^\| `paramcast ([^`]+)` \|", README, re.MULTILINE)
    assert [row.split()[0] for row in table] == list(COMMANDS)
    context = click.Context(paramcast)
    for row in table:
        command: click.Command | None = paramcast.get_command(context, row.split()[0])
        words = row.split()[1:]
        while isinstance(command, click.Group) and words and words[0].islower():
            command, words = command.get_command(context, words[0]), words[1:]
        assert command is not None, row
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known, row


def test_the_readme_s_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    assert not [link for link in links if "://" not in link and not (ROOT / link).exists()]


@pytest.mark.parametrize("target", ["install", "demo", "test", "lint", "docs"])
def test_the_make_targets_are_there(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("script", [f"build_{of}.py" for of in ("results", "speed", "cloud", "methods")])
def test_pages_say_what_the_committed_files_say(script: str) -> None:
    command = [sys.executable, str(ROOT / "docs" / script), "--check"]
    assert subprocess.run(command, capture_output=True).returncode == 0, "run: make docs"
