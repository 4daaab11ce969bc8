"""`python -m paramcast.methods.cmda_ot.flower`: the server, or one client."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import torch

from paramcast.files import replacing
from paramcast.methods.cmda_ot.errors import FederationInputError
from paramcast.methods.cmda_ot.estimator import CMDAOT
from paramcast.methods.cmda_ot.flower import ADDRESS
from paramcast.methods.cmda_ot.flower.client import Source, join
from paramcast.methods.cmda_ot.flower.server import serve
from paramcast.methods.commandline import run

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Run CMDA-OT on Flower, with every source in its own process.

    The connection is not encrypted: to other machines, use it only through an encrypted tunnel.
    """
    torch.set_num_threads(1)


@command.command()
@click.option("--target", required=True, type=_FILE, help=".npy file of the target, (N, D) numbers.")
@click.option(
    "--classes", required=True, type=click.IntRange(2), help="Number of classes; sources number them from 0."
)
@click.option(
    "--clients", "count", required=True, type=click.IntRange(1), help="Number of clients to wait for."
)
@click.option("--address", default=ADDRESS, show_default=True, help="host:port to listen on.")
@click.option("--rounds", default=10, show_default=True, type=click.IntRange(1), help="Rounds of averaging.")
@click.option(
    "--timeout", default=600.0, show_default=True, help="Time limit of a client's step, in seconds."
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the target's classes to this .npy file.",
)
def server(
    target: Path, classes: int, count: int, address: str, rounds: int, timeout: float, seed: int, out: Path
) -> None:
    """Hold the target, ask the clients, and write the class of each target sample."""
    (samples,) = _loaded(target)
    model = CMDAOT(rounds=rounds, random_state=seed)
    serve(model, samples, np.arange(classes), count, address, timeout, timeout)
    with replacing(out) as temporary, temporary.open("wb") as file:
        np.save(file, model.predict(samples))
    for each in model.left_out_:
        click.echo(f"{each.step}: client {each.client} was left out: {each.reason}")
    scores = ", ".join(f"client {name} {100 * score:.1f} %" for name, score in model.scores_.items())
    click.echo(f"{len(samples)} classes in {out}; agreement with pseudo-labels: {scores}")


@command.command()
@click.option(
    "--source", required=True, type=_FILE, help=".npz file with X (n, D) and y (n,), classes from 0."
)
@click.option(
    "--domain", required=True, type=click.IntRange(1), help="Number of this source among all sources."
)
@click.option("--server", "address", default=ADDRESS, show_default=True, help="host:port of the server.")
def client(source: Path, domain: int, address: str) -> None:
    """Hold one source, and take part until the server has finished."""
    X, y = _loaded(source, "X", "y")
    if X.ndim != 2 or X.dtype.kind not in "fiu" or not np.isfinite(X).all():
        raise FederationInputError(f"{source}: X must be a table (n, D) of finite numbers")
    if y.shape != (len(X),) or y.dtype.kind not in "iu" or y.min() < 0:
        raise FederationInputError(f"{source}: y must hold one class number from 0 on for each row of X")
    join(Source(domain, X.astype(np.float64), y.astype(np.int64)), address)


def _loaded(path: Path, *names: str) -> list[np.ndarray]:
    """Read the arrays with these names of an .npz file, or without names the one array of an .npy file."""
    try:
        with path.open("rb") as file:
            stored = np.load(file, allow_pickle=False)
            return [stored[name] for name in names or (...,)]
    except (OSError, ValueError, LookupError, EOFError) as error:
        raise FederationInputError(f"{path} cannot be read: {error}") from error


if __name__ == "__main__":
    run(command)
