"""`paramcast train`: train a base model and its adaptors on a collection, or adapt a user's module."""

from __future__ import annotations

import time
from pathlib import Path

import click

from paramcast.cli.common import FOLDER, json_option, needs, refuse_given, seed_option, typed_command
from paramcast.cli.module import DevicesOrCount, module_option, train_module
from paramcast.errors import InputError

TASKS = ("qa", "choice", "retrieval")
ADAPTERS = {"basis": "codes", "lowrank": "lowrank", "residual": "residual", "full": "full"}
"""Adapter -> name of its form in the updates of the video application."""
OF_VIDEOS = ("data", "task", "form", "frames", "sampling", "image_encoder", "skip_broken")
OF_MODULES = ("targets", "context", "base")
CONTROLS = {"base": "base", "support": "own", "truth": "oracle", "constant": "constant"}
"""Stage of training -> name of its row in the tables of `evaluate`."""
SAMPLINGS = ("uniform", "time", "scene")

_SAMPLING = (
    "Which frames of a clip are used: uniform, at the centers of equal segments of the frames; "
    "time, at the centers of equal spans of time, as on watching devices and in browsers; scene, "
    "spread over the scenes, which begin where the colors change."
)
_TRUNKS = "Image encoder: efficientnet-lite0-conse, efficientnet-lite0, timm:NAME, open_clip:NAME."


@click.command(name="train", context_settings={"show_default": True})
@click.option("--data", type=FOLDER, help="The collection: a folder with a clips.jsonl.")
@click.option("--task", type=click.Choice(TASKS), help="Task of the devices.")
@module_option
@seed_option
@click.option(
    "--out", required=True, type=FOLDER, help="Folder of the model; a killed run continues from it."
)
@click.option(
    "--adapter", default="basis", type=click.Choice(list(ADAPTERS)), help="How updates change parameters."
)
@click.option("--form", type=click.Choice(list(ADAPTERS.values())), hidden=True)  # its former spelling
@click.option(
    "--devices",
    default=200,
    type=DevicesOrCount(5),
    help="Simulated devices to train on; with --module, a function that returns the devices.",
)
@click.option(
    "--target",
    "targets",
    multiple=True,
    help="With --module: pattern of modules or parameters to adapt; may be repeated.  [default: *]",
)
@click.option("--context", help="With --module: submodule whose output is sent to the cloud.")
@click.option("--base", is_flag=True, help="With --module: also train the module itself.")
@click.option("--frames", default=8, type=click.IntRange(1, 64), help="Number of frames of a clip.")
@click.option("--sampling", default="uniform", type=click.Choice(SAMPLINGS), help=_SAMPLING)
@click.option(
    "--steps",
    type=click.IntRange(1),
    help="Training steps of each hypernetwork.  [default: 600; with --module 400]",
)
@click.option("--image-encoder", default="efficientnet-lite0-conse", help=_TRUNKS)
@click.option(
    "--skip-broken",
    is_flag=True,
    help="Leave out clips whose lines or files are broken, and list them; otherwise the first one ends "
    "the run.",
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    help="Number of Ray workers (extra `ray`), on the cluster of RAY_ADDRESS or on this machine.",
)
@json_option
def command(
    data: Path | None,
    task: str | None,
    module: str | None,
    seed: int,
    out: Path,
    adapter: str,
    form: str | None,
    devices: int | str,
    targets: tuple[str, ...],
    context: str | None,
    base: bool,
    frames: int,
    sampling: str,
    steps: int | None,
    image_encoder: str,
    skip_broken: bool,
    workers: int | None,
    json_file: Path | None,
) -> None:
    """Train a base model and the hypernetworks that generate parameters for devices.

    Give --data and --task for videos with questions or captions, or --module and --devices for your own
    torch module.

    Test clips are not used. They are the clips that the `split` of the collection names, else a tenth of its
    videos. The text encoder knows English and cuts each text after 64 tokens. Task qa answers with one of at
    most 1,000 answers, which are the most frequent ones of the training clips.
    """
    if module:
        refuse_given(OF_VIDEOS, "--module")
        how = {"targets": targets, "adapter": adapter, "context": context, "base": base}
        train_module(module, devices, out, seed, steps, workers, json_file, **how)
        return
    refuse_given(OF_MODULES, "--data")
    if data is None or task is None or isinstance(devices, str):
        raise click.UsageError(
            f"give --data and --task ({', '.join(TASKS)}), or --module and --devices FILE.py:FUNCTION"
        )
    with needs("paramcast train", "train"):
        from paramcast.results import write_results
        from paramcast.video.data.collection import Collection
        from paramcast.video.training.pipeline import TrainingOptions, train
        from paramcast.video.training.whole import whole_collection
    options = TrainingOptions(
        task=task,
        form=form or ADAPTERS[adapter],
        seed=seed,
        image_encoder=image_encoder,
        frames=frames,
        sampling=sampling,
        devices=devices,
        adaptor_steps=steps or TrainingOptions.adaptor_steps,
    )
    start = time.perf_counter()
    if workers and skip_broken:
        raise InputError(
            "--skip-broken and --workers cannot be combined; write a clean list first: paramcast "
            "data check --write clips.jsonl"
        )
    if workers:
        from paramcast.video.training.on_ray import train_on_ray

        model = train_on_ray(data, out, options, workers)
    else:
        model = train(whole_collection(data, options) if skip_broken else Collection.open(data), out, options)
    seconds = time.perf_counter() - start
    scores = ", ".join(f"{CONTROLS[stage]} {score:.1f}" for stage, score in model.config.scores.items())
    click.echo(f"{out}: {task} model in {seconds:.0f} s; mean score (%) on validation devices: {scores}")
    if json_file:
        rows = [{"name": "train", "value": 1e3 * seconds, "unit": "ms"}]
        rows += [
            {"name": f"validation_{stage}", "value": score, "unit": "%"}
            for stage, score in model.config.scores.items()
        ]
        write_results(json_file, typed_command(), seed, rows)
