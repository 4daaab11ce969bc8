"""What all reports have: one style, their footer, charts for wide and for narrow screens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

WIDE, NARROW = 760, 356
"""Pixels of a chart on a desk and on a telephone."""


def render(template: Path, results: Mapping[str, Any], **content: Any) -> str:
    """A page of a template, which may build on those in this folder.

    Args:
        template: Its file.
        results: A results file, whose command, seed, commit and machine the footer tells.
        content: What the template asks for.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, Path(__file__).parent]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(template.name)
    return page.render(
        content, results=results, command=_command(results["command"]), machine=_machine(results["machine"])
    )


def both(chart: Any, *arguments: Any) -> Markup:
    """A chart for wide and one for narrow screens, of which the style sheet shows one."""
    return Markup('<div class="wide">{}</div><div class="narrow">{}</div>').format(
        *(Markup(chart(*arguments, width)) for width in (WIDE, NARROW))
    )


def _command(typed: str) -> str:
    """As it can be typed again; a results file leaves the program's name out where that is `paramcast`."""
    return typed if typed.startswith("python ") else f"paramcast {typed}"


def _machine(machine: Mapping[str, Any]) -> str:
    """In one line."""
    return ", ".join(
        f"{value} {name}" if name == "cores" else str(value) for name, value in machine.items() if value
    )
