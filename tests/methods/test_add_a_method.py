"""The page on adding a method shows the method as it is."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from paramcast.methods.base import Method
from paramcast.methods.registry import METHODS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "add_a_method.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_file_is_the_one_that_there_is() -> None:
    assert BLOCKS[0] == (ROOT / "src/paramcast/methods/prior.py").read_text(encoding="utf-8")


def test_the_line_is_the_one_that_there_is() -> None:
    assert BLOCKS[1] in (ROOT / "src/paramcast/methods/registry.py").read_text(encoding="utf-8")


def test_the_table_says_all_that_a_method_may_say() -> None:
    told = set(re.findall(r"\w+", " ".join(re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE))))
    own = {name for name in vars(Method) if not name.startswith("_")} | set(inspect.get_annotations(Method))
    assert own - told <= {"swapped"}  # of the control alone


def test_every_method_has_its_paragraph() -> None:
    text = (ROOT / "docs/methods/compare.md").read_text(encoding="utf-8")
    told = {name for line in re.findall(r"^\*\*.*", text, re.MULTILINE) for name in re.findall(r"\w+", line)}
    assert set(METHODS) <= told
