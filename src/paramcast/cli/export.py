"""`paramcast export`: write the artifact, which devices and a server run without torch."""

from __future__ import annotations

import time
from pathlib import Path

import click

from paramcast.cli.common import FILE, FOLDER, json_option, needs, typed_command
from paramcast.cli.module import loaded, module_option
from paramcast.errors import InputError
from paramcast.protocol import load_or_make_key, public_key_hex
from paramcast.protocol.signing import is_public_key


@click.command(name="export")
@click.option("--model", "model_dir", required=True, type=FOLDER, help="Folder that `paramcast train` wrote.")
@module_option
@click.option(
    "--out", required=True, type=FOLDER, help="Folder of the artifact; an older artifact is replaced."
)
@click.option(
    "--key",
    "key_file",
    type=FILE,
    help="Key file of `paramcast serve`: the artifact gets its public half, and devices trust no other "
    "key. Without it, a device trusts the first server that it reaches.",
)
@click.option(
    "--public-key",
    help="The public key in hex, as `paramcast serve` prints it; use it if the private key is not here.",
)
@json_option
def command(
    model_dir: Path,
    module: str | None,
    out: Path,
    key_file: Path | None,
    public_key: str | None,
    json_file: Path | None,
) -> None:
    """Write the artifact: OUT/device has all files for devices, OUT/server has all files for a server."""
    with needs("paramcast export", "train"):
        from paramcast.results import write_results
        from paramcast.video.training.artifact import export_artifact
        from paramcast.video.training.model import TrainedModel
    if public_key and key_file:
        raise InputError("give --key or --public-key, not both")
    if public_key and not is_public_key(public_key):
        raise InputError("--public-key must have 64 hex digits, as `paramcast serve` prints it")
    start = time.perf_counter()
    if module:
        loaded(module, model_dir).export(out, key=public_key or key_file)
        seed = 0
    else:
        if key_file is not None:
            public_key = public_key_hex(load_or_make_key(key_file))
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
