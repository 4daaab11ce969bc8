"""`paramcast export`: the artifact, which devices and a server run without torch."""

from __future__ import annotations

import time
from pathlib import Path

import click

from paramcast.cli.common import FILE, FOLDER, json_option, needs, typed_command
from paramcast.cli.module import loaded, module_option
from paramcast.protocol import load_or_make_key, public_key_hex


@click.command(name="export")
@click.option("--model", "model_dir", required=True, type=FOLDER, help="What `paramcast train` wrote.")
@module_option
@click.option("--out", required=True, type=FOLDER, help="The artifact's folder; an older one is replaced.")
@click.option(
    "--key",
    "key_file",
    type=FILE,
    help="The key file of `paramcast serve`: its public half goes into the artifact, and devices trust no "
    "other. Without it, a device trusts the first server that it meets.",
)
@json_option
def command(
    model_dir: Path, module: str | None, out: Path, key_file: Path | None, json_file: Path | None
) -> None:
    """Write the artifact: OUT/device is all that devices need, OUT/server all that a server needs."""
    with needs("paramcast export", "train"):
        from paramcast.results import write_results
        from paramcast.video.training.artifact import export_artifact
        from paramcast.video.training.model import TrainedModel
    start = time.perf_counter()
    if module:
        loaded(module, model_dir).export(out, key=key_file)
        seed = 0
    else:
        public_key = None if key_file is None else public_key_hex(load_or_make_key(key_file))
        model = TrainedModel.load(model_dir)
        export_artifact(model, out, public_key)
        seed = model.config.seed
    seconds = time.perf_counter() - start
    files = sorted(path for path in out.rglob("*") if path.is_file())
    sizes = {path.relative_to(out).as_posix(): path.stat().st_size for path in files}
    click.echo(f"{out}: {len(sizes)} files, {sum(sizes.values()) / 1e6:.1f} MB, in {seconds:.1f} s")
    if json_file:
        rows = [{"name": name, "value": size, "unit": "bytes"} for name, size in sizes.items()]
        write_results(json_file, typed_command(), seed, rows)
