"""Tables between markers of the pages, made from the committed files in `benchmarks/`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "benchmarks"
MARKED = r"(<!-- table: {} -->\n).*?(<!-- end -->)"


def figures(name: str) -> dict[str, Any]:
    """A figures file."""
    found: dict[str, Any] = json.loads((BENCHMARKS / name).read_text(encoding="utf-8"))
    return found


def named_rows(name: str) -> dict[str, dict[str, Any]]:
    """The rows of a figures file by their names."""
    return {row["name"]: row for row in figures(name)["rows"]}


def filled(page: str, made: Mapping[str, str], name: str) -> str:
    """The page with every table in its place.

    Args:
        page: Its text.
        made: Name of a marker -> table.
        name: Of the page, for the error.

    Raises:
        ValueError: A table has no place in the page.
    """
    for marker, table in made.items():
        block = re.compile(MARKED.format(re.escape(marker)), re.DOTALL)
        if not block.search(page):
            raise ValueError(f"{name} has no place for the table {marker!r}")
        page = block.sub(lambda match, table=table: f"{match[1]}{table}\n{match[2]}", page)
    return page


def update(path: Path, made: Mapping[str, str], check: bool) -> bool:
    """Put tables in their places on a page, unless it is only to be checked; whether it was stale."""
    page = path.read_text(encoding="utf-8")
    new = filled(page, made, path.name)
    if not check:
        path.write_text(new, encoding="utf-8")
    return new != page


def markdown(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table."""
    rule = ["---"] * len(head)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, rule, *lines])
