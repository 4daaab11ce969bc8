"""`paramcast device watch`: run a device on a camera, a stream or a file."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import islice
from pathlib import Path

import click

from paramcast.cli.common import FOLDER, noise_option
from paramcast.device import AdaptationLoop, Budget, CloudClient, DeviceIdentity, DeviceRuntime, make_policy
from paramcast.device.video import read_clips
from paramcast.errors import InputError


@click.command(name="watch", context_settings={"show_default": True})
@click.option(
    "--bundle", required=True, type=FOLDER, help="Artifact that `paramcast export` wrote, of task qa."
)
@click.option("--source", required=True, help="A file, a URL (rtsp://...) or camera:NAME.")
@click.option(
    "--question",
    "questions",
    required=True,
    multiple=True,
    help="Question about every clip; may be repeated.",
)
@click.option("--cloud", help="URL of a `paramcast serve`; without it the device runs its base model.")
@click.option("--ask", default="on-drift", help="When to ask the server: always, never, every:N or on-drift.")
@click.option("--bytes-a-day", type=click.IntRange(1), help="Largest number of bytes per day, up and down.")
@click.option("--device-id", default="device", help="Name of the device.")
@click.option("--store", type=FOLDER, help="Folder for packages.")
@click.option(
    "--identity", type=FOLDER, help="Folder that `paramcast device enroll` wrote; requests are then signed."
)
@noise_option
@click.option(
    "--frames", type=click.IntRange(1, 64), help="Number of frames of a clip.  [default: the model's]"
)
@click.option("--seconds", default=4.0, type=click.FloatRange(0.01), help="Length of a clip in seconds.")
@click.option("--clips", type=click.IntRange(1), help="Stop after this number of clips.")
def command(
    bundle: Path,
    source: str,
    questions: tuple[str, ...],
    cloud: str | None,
    ask: str,
    bytes_a_day: int | None,
    device_id: str,
    store: Path | None,
    identity: Path | None,
    uplink_noise: float,
    frames: int | None,
    seconds: float,
    clips: int | None,
) -> None:
    """Cut a video into clips as it is read, answer questions about each, and adapt when --ask says so."""
    policy, budget = make_policy(ask), Budget(bytes_a_day)
    runtime = DeviceRuntime.load(bundle, device_id, store=store, uplink_noise=uplink_noise)
    if runtime.bundle.task != "qa":
        raise InputError(f"{bundle} is for task {runtime.bundle.task}; watch needs task qa")
    with ExitStack() as stack:
        loop = None
        if cloud is not None:
            who = DeviceIdentity.load(identity) if identity else None
            client = stack.enter_context(CloudClient(cloud, identity=who))
            loop = AdaptationLoop(runtime, client, policy, budget)
        watched = read_clips(source, frames=frames or runtime.bundle.frames, seconds=seconds)
        for number, clip in enumerate(islice(watched, clips), start=1):
            answers = runtime.answer(clip, questions)
            said = ", ".join(f"{answer.text} ({answer.probability:.2f})" for answer in answers)
            click.echo(f"clip {number}, package {runtime.status()['sequence']}: {said}")
            if loop is not None:
                loop.observe(clip, list(questions))
        click.echo(_summary(runtime, loop))


def _summary(runtime: DeviceRuntime, loop: AdaptationLoop | None) -> str:
    status = loop.status() if loop else runtime.status()
    said = [f"{status['source']}: {status['why']}"]
    if loop:
        cloud = status["cloud"]
        said.append(f"asked {cloud['asked']} times, {cloud['bytes_up']} bytes up, {cloud['bytes_down']} down")
        if cloud["last_failure"]:
            said.append(f"the last request failed: {cloud['last_failure']['message']}")
    return "; ".join(said)
