"""`paramcast root`: offline root key of a fleet. These commands need no service, no state and no network."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from paramcast.cli.common import FILE, FOLDER
from paramcast.errors import InputError
from paramcast.files import write_bytes, write_json
from paramcast.protocol import delegate, load_key, make_key, public_key_hex, save_key
from paramcast.protocol.root import MANIFEST_SIGNATURE, sign_manifest
from paramcast.protocol.signing import is_public_key

_root = click.option(
    "--root", "root_file", required=True, type=FILE, help="Key file that `paramcast root new` wrote."
)


@click.group(name="root")
def command() -> None:
    """Use an offline root key, which delegates to the key that signs updates, and signs artifacts.

    If the service's key is stolen, one new delegation file replaces it; no device needs a new artifact.
    """


@command.command()
@click.argument("file", type=FILE)
def new(file: Path) -> None:
    """Make a root key in FILE, which only the owner of the file may read, and print its public half.

    Keep FILE offline, and keep a copy of it elsewhere: a fleet cannot change its root without new artifacts.
    """
    key = make_key()
    save_key(key, file)
    click.echo(public_key_hex(key))


@command.command(name="delegate")
@_root
@click.option(
    "--public-key", required=True, help="Public key of the service in hex: `serve` and `rotate-key` print it."
)
@click.option(
    "--generation",
    required=True,
    type=click.IntRange(1),
    help="Generation of the key, higher than every earlier one.",
)
@click.option(
    "--days",
    default=365,
    show_default=True,
    type=click.IntRange(1, 36500),
    help="Days until the delegation ends.",
)
@click.option("--out", required=True, type=FILE, help="File of the delegation, for `serve --delegation`.")
def delegate_(root_file: Path, public_key: str, generation: int, days: int, out: Path) -> None:
    """Sign a delegation, so that devices trust the service's key and no key of a lower generation."""
    if not is_public_key(public_key):
        raise InputError("--public-key must have 64 lower-case hex digits: `paramcast serve` prints it")
    if out.exists():
        raise InputError(f"{out} exists already; choose another file")
    word = delegate(
        load_key(root_file),
        generation=generation,
        key=public_key,
        not_after=int(time.time()) + 86400 * days,
    )
    write_json(out, word.to_json())
    until = (datetime.now(UTC) + timedelta(days=days)).strftime("%Y-%m-%d")
    click.echo(
        f"generation {generation}: key {public_key[:12]}... may sign until {until}; give {out} to `serve`"
    )


@command.command()
@click.argument("artifact", type=FOLDER)
@_root
def sign(artifact: Path, root_file: Path) -> None:
    """Sign ARTIFACT. Devices that run it then trust only the keys that this root delegates.

    A device that has the root's public key refuses every artifact that this root has not signed.
    """
    root = load_key(root_file)
    halves = [artifact / name for name in ("device", "server") if (artifact / name).is_dir()] or [artifact]
    for folder in halves:
        path = folder / "manifest.json"
        try:
            manifest = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise InputError(f"{folder} is no folder of an artifact: {path} cannot be read") from error
        if not isinstance(manifest, dict):
            raise InputError(f"{path} is no manifest")
        manifest["root"] = public_key_hex(root)
        data = json.dumps(manifest, indent=1).encode() + b"\n"
        # Write the signature first: a manifest with a missing or wrong signature is refused.
        write_bytes(folder / MANIFEST_SIGNATURE, (sign_manifest(root, data) + "\n").encode())
        write_bytes(path, data)
    signed = ", ".join(folder.name for folder in halves)
    click.echo(f"{artifact}: {signed} signed by root {public_key_hex(root)}")
