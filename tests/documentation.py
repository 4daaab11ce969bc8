"""Runs the code blocks of a page of the documentation in order."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1] / "docs"


def run_page(page: str, **known: Any) -> int:
    """Run all `python` blocks of a page in one namespace, which initially contains `known`.

    If a line prints and ends in a comment, it must print the text of the comment.

    Returns:
        The number of blocks.
    """
    names: dict[str, Any] = {"__name__": "page", **known}
    blocks = re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(encoding="utf-8"), re.M | re.S)
    for number, block in enumerate(blocks, 1):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(block, f"{page}, block {number}", "exec"), names)
        for said in re.findall(r"^ *print\(.*\)  # (.*)$", block, re.M):
            assert said in printed.getvalue().splitlines(), f"{page}, block {number}: {printed.getvalue()}"
    return len(blocks)
