"""Hooks of the site: they add the files that pages link to, and a list of all measurements."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
RESULTS = "experiments/results"
COPIED = (f"{RESULTS}/**/*.json", "examples/*.py", "LICENSE")
_OUTSIDE = re.compile(r"\]\(((?:\.\./)+)((?:experiments/results|examples|LICENSE)[^)]*)\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the files that pages link to, and the list of measurements."""
    for pattern in COPIED:
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    files.append(File.generated(config, f"{RESULTS}/index.md", content=measurements()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Let links out of `docs/` lead to the copies, and use the repository's page on contributing."""
    if page.file.src_uri == "contributing.md":
        text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
        return (
            text.replace("](docs/", "](")
            .replace("](experiments/log.md", "](log.md")
            .replace("](experiments/README.md", f"]({RESULTS}/index.md")
        )
    return _OUTSIDE.sub(_inside, markdown)


def measurements() -> str:
    """Make a table of the committed result files and the commands that made them."""
    lines = ["# Measurements", "", "| file | command | seed | commit |", "| --- | --- | --- | --- |"]
    for path in sorted((ROOT / RESULTS).rglob("*.json")):
        name, made = path.relative_to(ROOT / RESULTS).as_posix(), json.loads(path.read_text())
        about = [f"`{made['command']}`", str(made["seed"]), str(made["commit"])[:12]]
        lines.append(f"| [{name}]({name}) | {' | '.join(about)} |")
    return "\n".join(lines)


def _inside(link: re.Match[str]) -> str:
    up, target = link[1].removeprefix("../"), link[2].rstrip("/")
    return f"]({up}{f'{RESULTS}/index.md' if target == RESULTS else target})"
