"""Coverage-guided fuzzing of the wire format: no input may crash, hang or take memory above a limit."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from experiments import ROOT
from paramcast.bench.rows import row, rows_table
from paramcast.cli.bench.options import tell
from paramcast.cli.common import FOLDER, json_option, needs, seed_option
from paramcast.errors import ParamcastError

LONGEST_INPUT = 4096
MEMORY_MB, INPUT_S = 256, 2
"""Limits: memory of the whole process, of which Python itself takes 60 MB; seconds for one input."""

_FIGURE = re.compile(r"^stat::(\w+): +(\d+)", re.MULTILINE)


class FindingError(ParamcastError):
    """The fuzzer has found an input that crashes, hangs or takes too much memory."""


def bench_fuzz(inputs: int, seed: int, findings: Path) -> list[dict[str, Any]]:
    """Decode `inputs` inputs as requests, updates and headers, in a separate process.

    Args:
        inputs: Number of inputs.
        seed: Seed of the fuzzer.
        findings: Folder for an input that breaks something.

    Raises:
        FindingError: If there is such an input; the message has the last lines of the fuzzer.
    """
    findings = findings.resolve()
    findings.mkdir(parents=True, exist_ok=True)
    limits = [f"-max_len={LONGEST_INPUT}", f"-rss_limit_mb={MEMORY_MB}", f"-timeout={INPUT_S}"]
    options = [f"-runs={inputs}", f"-seed={seed}", "-print_final_stats=1", f"-artifact_prefix={findings}/"]
    # The command runs in a shell, since a new process first counts the memory of its parent as its own.
    shell = ["sh", "-c", '"$@"; exit $?', "sh"]
    command = [*shell, sys.executable, "-m", "experiments.fuzz_wire", *options, *limits]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        code = subprocess.run(command, cwd=ROOT, stdout=log, stderr=log, check=False).returncode
        log.seek(0)
        told = log.read()
    if code:
        raise FindingError(f"the fuzzer ended with code {code}:\n" + "\n".join(told.splitlines()[-30:]))
    found = {name: int(value) for name, value in _FIGURE.findall(told)}
    reached = max(map(int, re.findall(r"cov: (\d+)", told)))
    done, memory = found["number_of_executed_units"], found["peak_rss_mb"]
    return [
        row("fuzz_inputs", done, "inputs without a finding", f"{inputs:,} asked for", done / inputs),
        row("fuzz_rate", found["average_exec_per_sec"], "inputs/s"),
        row("fuzz_reached", reached, "branches of paramcast.protocol"),
        row("fuzz_memory", memory, "MB", f"limit: {MEMORY_MB} MB", memory / MEMORY_MB),
        row("fuzz_slowest", found["slowest_unit_time_sec"], "s", f"limit: {INPUT_S} s"),
    ]


@click.command(name="fuzz", context_settings={"show_default": True})
@click.option("--inputs", default=1_000_000, type=click.IntRange(1000), help="How many are tried.")
@click.option(
    "--findings", default="findings", type=FOLDER, help="Where an input goes that breaks something."
)
@seed_option
@json_option
def command(inputs: int, findings: Path, seed: int, json_file: Path | None) -> None:
    """Fuzz everything that is read from strangers: requests, updates, headers of signatures."""
    with needs("python -m experiments fuzz", "fuzz"):
        import atheris  # noqa: F401  it runs in another process; a missing package is reported here
    rows = bench_fuzz(inputs, seed, findings)
    tell(rows_table(rows), rows, seed, json_file)
