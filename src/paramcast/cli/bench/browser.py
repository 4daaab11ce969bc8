"""`paramcast bench browser`: answers, swaps and starts of a device in a browser tab."""

from __future__ import annotations

from pathlib import Path

import click

from paramcast.cli.bench.options import tell
from paramcast.cli.common import json_option, needs, seed_option


@click.command(name="browser", context_settings={"show_default": True})
@click.option("--rounds", default=20, type=click.IntRange(1), help="Timed answers and swaps of each form.")
@seed_option
@json_option
def command(rounds: int, seed: int, json_file: Path | None) -> None:
    """Time the page of `paramcast serve` in a Chromium (PARAMCAST_BROWSER, or one that is installed)."""
    with needs("paramcast bench browser", "train,server,browser"):
        import playwright.sync_api
        import uvicorn  # noqa: F401  the service is a process of its own

        from paramcast.bench.browser import bench_browser
        from paramcast.bench.rows import rows_table
    try:
        rows = bench_browser(seed, rounds)
    except playwright.sync_api.Error as error:
        raise click.ClickException(f"the browser failed: {error}") from error
    tell(rows_table(rows), rows, seed, json_file)
