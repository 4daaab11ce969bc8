"""Write the lock files: all packages of an install, each at one version, with the hashes of its files.

`constraints.txt` names the versions. A lock file adds the packages that these need, and the hashes of the
files. pip installs nothing else from a lock (`--require-hashes`), whatever the index serves. Only torch is in
no lock: its build depends on the machine and the index. Run this script with `make lock` after a change of
`pyproject.toml` or `constraints.txt`; a test checks that the three agree.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
LOCKS: dict[str, tuple[str, ...]] = {
    "dev": ("pyproject.toml", "--extra", "dev"),
    "server": ("pyproject.toml", "--extra", "server", "requirements/build.in"),
    "train": ("pyproject.toml", "--extra", "train"),
    "ray": ("pyproject.toml", "--extra", "ray"),
    "apart": ("requirements/apart.in", "--no-deps"),
}
"""Lock file -> its sources. The server's also has the packages that build paramcast, for the image."""

HEADER = """\
# Written by `make lock`; change pyproject.toml or constraints.txt instead.
"""


def lock(name: str) -> str:
    """Make the content of a lock file.

    Raises:
        subprocess.CalledProcessError: uv finds no set of packages, or does not reach the index.
    """
    uv = [str(Path(sys.executable).parent / "uv"), "--config-file", str(HERE / "uv.toml"), "pip", "compile"]
    # The documentation's packages need 3.11.5.
    options = ["--universal", "--python-version", "3.11.5", "--generate-hashes", "--quiet"]
    options += [
        "--no-header",
        "--no-annotate",
        "--no-emit-package",
        "torch",
        "--constraints",
        "constraints.txt",
        *LOCKS[name],
    ]
    done = subprocess.run([*uv, *options], cwd=ROOT, check=True, text=True, stdout=subprocess.PIPE)
    return HEADER + done.stdout


def main() -> None:
    """Write all lock files."""
    for name in LOCKS:
        (HERE / f"{name}.txt").write_text(lock(name), encoding="utf-8")


if __name__ == "__main__":
    main()
