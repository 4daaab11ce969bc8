"""Fill the tables between the markers of the pages from the committed files in `experiments/results/`."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # for `experiments`, which is not installed
RESULTS = ROOT / "experiments/results"
MARKED = r"(<!-- table: {} -->\n).*?(<!-- end -->)"

Row = Mapping[str, Any]


def results(path: Path) -> dict[str, Any]:
    """Read a results file."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def rows_of(path: Path) -> list[Row]:
    """Read the rows of a results file."""
    rows: list[Row] = results(path)["rows"]
    return rows


def named_rows(name: str) -> dict[str, Row]:
    """Read the rows of a file in `experiments/results/` by their names."""
    return {row["name"]: row for row in rows_of(RESULTS / name)}


def filled(page: str, made: Mapping[str, str], name: str) -> str:
    """Return the text of a page with every table in its place.

    Args:
        page: Text of the page.
        made: Name of a marker -> table.
        name: Name of the page, for the error.

    Raises:
        ValueError: The page has no marker for a table.
    """
    for marker, table in made.items():
        block = re.compile(MARKED.format(re.escape(marker)), re.DOTALL)
        if not block.search(page):
            raise ValueError(f"{name} has no place for the table {marker!r}")
        page = block.sub(lambda match, table=table: f"{match[1]}{table}\n{match[2]}", page)
    return page


def update(path: Path, made: Mapping[str, str], check: bool) -> bool:
    """Put tables in their places on a page unless `check` is set; return whether the page was stale."""
    page = path.read_text(encoding="utf-8")
    new = filled(page, made, path.name)
    if not check:
        path.write_text(new, encoding="utf-8")
    return new != page


def markdown(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Format a table."""
    rule = ["---"] * len(head)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, rule, *lines])


def only_checking(description: str) -> bool:
    """Check whether the command line has `--check`; `description` of the script is for its help."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if pages are stale")
    return bool(parser.parse_args().check)


def fill(pages: Mapping[Path, Mapping[str, str]], check: bool) -> int:
    """Put tables in their places on pages, or check that they are there; return the exit code."""
    stale = [update(page, tables, check) for page, tables in pages.items()]
    return int(check and any(stale))
