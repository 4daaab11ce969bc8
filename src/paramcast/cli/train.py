"""`paramcast train`: a base model and its adaptors, from a collection."""

from __future__ import annotations

import time
from pathlib import Path

import click

from paramcast.cli.common import FOLDER, json_option, needs, seed_option, typed_command

TASKS = ("qa", "choice", "retrieval")
ADAPTERS = {"basis": "codes", "lowrank": "lowrank", "residual": "residual", "full": "full"}
"""Adapter -> the name of its form, which updates of the video application carry."""
SAMPLINGS = ("uniform", "time", "scene")


@click.command(name="train", context_settings={"show_default": True})
@click.option("--data", required=True, type=FOLDER, help="The collection: a folder with a clips.jsonl.")
@click.option("--task", required=True, type=click.Choice(TASKS), help="What devices are to do.")
@seed_option
@click.option("--out", required=True, type=FOLDER, help="The model's folder; a killed run goes on from it.")
@click.option(
    "--adapter", default="basis", type=click.Choice(list(ADAPTERS)), help="How updates change parameters."
)
@click.option("--form", type=click.Choice(list(ADAPTERS.values())), hidden=True)  # its spelling of old
@click.option("--devices", default=200, type=click.IntRange(5), help="Simulated devices to train on.")
@click.option("--frames", default=8, type=click.IntRange(1, 64), help="Frames a clip.")
@click.option("--sampling", default="uniform", type=click.Choice(SAMPLINGS), help="How frames are chosen.")
@click.option(
    "--steps", "adaptor_steps", default=600, type=click.IntRange(1), help="Training steps of each adaptor."
)
@click.option("--image-encoder", default="efficientnet-lite0-conse", help="Name of the image trunk.")
@click.option(
    "--workers",
    type=click.IntRange(1),
    help="Train on so many workers of Ray (extra `ray`), on the cluster of RAY_ADDRESS or on this machine.",
)
@json_option
def command(
    data: Path,
    task: str,
    seed: int,
    out: Path,
    adapter: str,
    form: str | None,
    devices: int,
    frames: int,
    sampling: str,
    adaptor_steps: int,
    image_encoder: str,
    workers: int | None,
    json_file: Path | None,
) -> None:
    """Train a base model and the adaptors that make parameters for devices.

    Test clips (a tenth of the collection, by a hash of their ids) are not touched.
    """
    with needs("paramcast train", "train"):
        from paramcast.results import write_results
        from paramcast.video.data.collection import Collection
        from paramcast.video.training.pipeline import TrainingOptions, train
    options = TrainingOptions(
        task=task,
        form=form or ADAPTERS[adapter],
        seed=seed,
        image_encoder=image_encoder,
        frames=frames,
        sampling=sampling,
        devices=devices,
        adaptor_steps=adaptor_steps,
    )
    start = time.perf_counter()
    if workers:
        from paramcast.video.training.on_ray import train_on_ray

        model = train_on_ray(data, out, options, workers)
    else:
        model = train(Collection.open(data), out, options)
    seconds = time.perf_counter() - start
    scores = ", ".join(f"{stage} {score:.1f}" for stage, score in model.config.scores.items())
    click.echo(f"{out}: {task} model in {seconds:.0f} s; mean score (%) on validation devices: {scores}")
    if json_file:
        rows = [{"name": "train", "value": 1e3 * seconds, "unit": "ms"}]
        rows += [
            {"name": f"validation_{stage}", "value": score, "unit": "%"}
            for stage, score in model.config.scores.items()
        ]
        write_results(json_file, typed_command(), seed, rows)
