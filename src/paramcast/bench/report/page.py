"""Common parts of all reports: style, footer, charts for wide and for narrow screens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

WIDE, NARROW = 760, 356
"""Width in pixels of a chart on a desktop screen and on a telephone."""


def render(template: Path, results: Mapping[str, Any], **content: Any) -> str:
    """Render a page from a template, which may extend the templates in this folder.

    Args:
        template: Its file.
        results: A results file; the footer shows its command, seed, commit and machine.
        content: Variables of the template.
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
    """Draw a chart for wide and one for narrow screens; the style sheet shows one of them."""
    return Markup('<div class="wide">{}</div><div class="narrow">{}</div>').format(
        *(Markup(chart(*arguments, width)) for width in (WIDE, NARROW))
    )


def _command(typed: str) -> str:
    """Format the command so that it can be typed; results files leave out the program name `paramcast`."""
    return typed if typed.startswith("python ") else f"paramcast {typed}"


def _machine(machine: Mapping[str, Any]) -> str:
    """Format the machine in one line."""
    return ", ".join(
        f"{value} {name}" if name == "cores" else str(value) for name, value in machine.items() if value
    )
