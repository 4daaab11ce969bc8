"""`paramcast device`: `run` runs one simulated device, `enroll` enrolls a device; `watch` has a file."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from paramcast.cli.common import noise_option
from paramcast.cli.watch import command as watch
from paramcast.device import Answer, Bundle, CloudClient, DeviceIdentity, DeviceRuntime
from paramcast.errors import InputError, MissingExtraError, ParamcastError
from paramcast.files import write_json

if TYPE_CHECKING:
    from paramcast.video.data.collection import Clip, Collection
    from paramcast.video.shifts.fleet import Device

TIMED = 4
"""Number of clips or texts of a score that are timed, each with an empty cache of features."""
RANKS = (1, 5, 10)
_folder = click.Path(path_type=Path, file_okay=False)
_file = click.Path(path_type=Path, dir_okay=False)


@click.group(name="device")
def command() -> None:
    """Run or enroll a device."""


command.add_command(watch)


@command.command(context_settings={"show_default": True})
@click.argument("artifact", required=False, type=_folder)
@click.option(
    "--inputs", type=_file, help="Arrays by the names of ARTIFACT's inputs, in a file of `np.savez`."
)
@click.option("--bundle", type=_folder, help="Artifact of the video application.")
@click.option("--cloud", help="URL of a `paramcast serve`; without it the device runs its base model.")
@click.option("--data", type=_folder, help="Collection with the device's clips.")
@click.option("--device-id", required=True, help="Name of the device; with --fleet, a device of the fleet.")
@click.option("--fleet", type=_file, help="Take clips, cameras and words from this fleet file.")
@click.option(
    "--support", default=8, type=click.IntRange(1, 64), help="Number of examples or clips to adapt with."
)
@click.option(
    "--store", type=_folder, help="Folder for packages, so that a restart continues with the last good one."
)
@click.option(
    "--identity", type=_folder, help="Folder that `paramcast device enroll` wrote; requests are then signed."
)
@noise_option
@click.option("--json", "json_file", type=_file, help="Write the results to this file.")
def run(
    artifact: Path | None,
    inputs: Path | None,
    bundle: Path | None,
    cloud: str | None,
    data: Path | None,
    device_id: str,
    fleet: Path | None,
    support: int,
    store: Path | None,
    identity: Path | None,
    uplink_noise: float,
    json_file: Path | None,
) -> None:
    """Observe examples, adapt over HTTP, and answer before and after the adaptation.

    ARTIFACT with --inputs runs the exported model of any module and prints its predictions for the arrays.
    The device adapts with the first examples of the arrays.

    --bundle with --data runs the video application on clips. With --fleet, the device is one of the devices
    that `paramcast evaluate --fleet FILE` wrote. None of its clips was used in training, and its score
    without --cloud is its score in the row `base` of that evaluation. Without --fleet, the first clips of the
    collection are the support set, and the device is scored on all others, also on clips of the training.
    """
    if artifact is not None and inputs is not None and not (bundle or data or fleet):
        from paramcast.cli.device_module import run_module

        options = {"store": store, "identity": identity, "uplink_noise": uplink_noise}
        run_module(artifact, inputs, device_id, cloud, support, json_file, **options)
        return
    if bundle is None or data is None or artifact is not None or inputs is not None:
        raise click.UsageError("give ARTIFACT and --inputs, or --bundle and --data")
    runtime = DeviceRuntime.load(bundle, device_id, store=store, uplink_noise=uplink_noise)
    world = _simulate(data, device_id, fleet, support, runtime.bundle)
    base = _score(runtime.at_base(), world)
    figures: dict[str, Any] = {"device": device_id, "support": len(world.support), "base": base}
    failure = None
    if cloud is not None:
        for clip in world.support:
            runtime.observe(world.frames(clip), world.queries(clip, runtime.bundle.task))
        try:
            figures |= _adapt(runtime, cloud, identity)
        except ParamcastError as error:
            failure = error
        status = runtime.status()
        figures |= {"source": status["source"], "sequence": status["sequence"], "own": _score(runtime, world)}
    figures["peak_mb"] = _peak_mb()
    if json_file is not None:
        write_json(json_file, figures)
    click.echo(_summary(figures))
    if fleet is None:
        click.echo(
            "note: scored on all clips of the collection; if it is the training collection, the "
            "score is too high: give --fleet a file of unseen clips that `paramcast evaluate "
            "--fleet` wrote",
            err=True,
        )
    if failure is not None:  # the device has answered with the parameters that it had
        raise failure


@command.command()
@click.option("--cloud", required=True, help="URL of a `paramcast serve`.")
@click.option("--device-id", required=True, help="Name of the device.")
@click.option(
    "--token", required=True, envvar="PARAMCAST_TOKEN", help="Token that `paramcast enroll` printed."
)
@click.option("--identity", required=True, type=_folder, help="Folder for the device's key.")
def enroll(cloud: str, device_id: str, token: str, identity: Path) -> None:
    """Make a key that never leaves this device, and register its public half in the cloud."""
    with CloudClient(cloud) as client:
        enrolled = client.enrol(token, identity, device_id)
    click.echo(f"device {device_id} is enrolled with public key {enrolled.public_key}")


@dataclass(frozen=True)
class _World:
    """Clips of a simulated device, and the words of its users."""

    support: Sequence[Clip]
    query: Sequence[Clip]
    bundle: Bundle
    collection: Collection
    device: Device | None = None

    def frames(self, clip: Clip) -> np.ndarray:
        """Return a clip as the device's camera records it: (T, H, W, 3) uint8."""
        from paramcast.video.data.frames import read_frames

        frames = read_frames(clip, self.bundle.frames, self.bundle.sampling)
        for camera in self.device.cameras if self.device else ():
            frames = camera.apply(frames)
        return frames

    def questions(self, clip: Clip) -> list[tuple[str, list[str]]]:
        """Return the questions of a clip, each with all right answers, in the device's words."""
        return [
            (self.sentences([pair.question])[0], [self.answer(answer) for answer in pair.right])
            for pair in clip.qa
        ]

    def options(self, clip: Clip) -> list[list[str]]:
        """Return the options for each question of a clip, in the device's words."""
        offered = [self.collection.distractors.options(clip.id, question) for question in clip.qa]
        return [list(dict.fromkeys(map(self.answer, options))) for options in offered]

    def answer(self, answer: str) -> str:
        """Return an answer in the device's words."""
        return self.device.answer(answer) if self.device else answer

    def sentences(self, texts: Sequence[str]) -> list[str]:
        """Return questions or captions in the device's words."""
        return [self.device.question(text) if self.device else text for text in texts]

    def queries(self, clip: Clip, task: str) -> list[str]:
        """Return the queries of the device's users about a clip; they contain no answers."""
        if task == "retrieval":
            return self.sentences(clip.frame_captions or clip.captions[:1])
        return [question for question, _ in self.questions(clip)]


def _simulate(data: Path, device_id: str, fleet: Path | None, support: int, bundle: Bundle) -> _World:
    """Return the clips of the device `device_id` of the fleet.

    Without a fleet, the first `support` clips are the support set and all others are the query set.
    """
    try:
        from paramcast.video.data.collection import Collection
        from paramcast.video.shifts.fleet import Fleet
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("paramcast"):
            raise
        raise MissingExtraError("paramcast device run", "video") from error
    collection = Collection.open(data)
    if fleet is None:
        clips = collection.clips
        return _World(clips[:support], clips[support:], bundle, collection)
    device = next((device for device in Fleet.load(fleet).devices if device.id == device_id), None)
    if device is None:
        raise InputError(f"{fleet} has no device {device_id!r}")
    try:
        support_clips = [collection.by_id[clip_id] for clip_id in device.support[:support]]
        query_clips = [collection.by_id[clip_id] for clip_id in device.query]
    except KeyError as error:
        raise InputError(f"{data} has no clip {error}, which device {device_id} of {fleet} needs") from error
    return _World(support_clips, query_clips, bundle, collection, device)


def _adapt(runtime: DeviceRuntime, cloud: str, identity: Path | None) -> dict[str, Any]:
    """Adapt once and return the bytes of the bodies and the times.

    `swap_ms` is the time to check, try, keep and take up the package.
    """
    with CloudClient(cloud, identity=DeviceIdentity.load(identity) if identity else None) as client:
        if runtime.public_key is None:
            client.trust(runtime)
        start = time.perf_counter()
        request = runtime.request()
        data = client.exchange(request)
        received = time.perf_counter()
        runtime.apply(data)
        end = time.perf_counter()
    return {
        "bytes_up": len(request.encode()),
        "bytes_down": len(data),
        "adapt_ms": 1e3 * (end - start),
        "swap_ms": 1e3 * (end - received),
    }


def _score(runtime: DeviceRuntime, world: _World) -> dict[str, float]:
    """Compute scores (percent) over the query clips, and milliseconds per call (p50, with the trunk)."""
    if runtime.bundle.task == "retrieval":
        return _score_retrieval(runtime, world)
    return _score_answers(runtime, world)


def _score_answers(runtime: DeviceRuntime, world: _World) -> dict[str, float]:
    """Compute the share of right answers as `evaluate` does; `black` is the share with black frames."""
    from paramcast.video.data.answers import normalized

    right: list[bool] = []
    blind: list[bool] = []
    asked = [clip for clip in world.query if clip.qa]
    if not asked:
        raise InputError("the query clips have no questions to answer")
    times = [_answer_ms(runtime, world, clip) for clip in asked[:TIMED]]
    for clip in asked:
        questions, rights, options = _asked(runtime, world, clip)
        frames = world.frames(clip)
        answers = _answers(runtime, frames, questions, options)
        unseen = _answers(runtime, np.zeros_like(frames), questions, options)
        right += [normalized(given.text) in known for given, known in zip(answers, rights, strict=True)]
        blind += [normalized(given.text) in known for given, known in zip(unseen, rights, strict=True)]
    found = {"top1": 100 * float(np.mean(right)), "black": 100 * float(np.mean(blind))}
    return {**found, "answer_ms": float(np.median(times))}


def _asked(
    runtime: DeviceRuntime, world: _World, clip: Clip
) -> tuple[list[str], list[set[str]], list[list[str]] | None]:
    """Return a clip's questions, the right answers of each (normalized), and the options, if any."""
    from paramcast.video.data.answers import normalized

    pairs = world.questions(clip)
    rights = [set(map(normalized, answers)) for _, answers in pairs]
    options = world.options(clip) if runtime.bundle.task == "choice" else None
    return [question for question, _ in pairs], rights, options


def _answer_ms(runtime: DeviceRuntime, world: _World, clip: Clip) -> float:
    """Measure the milliseconds of the answers about a clip, with an empty cache of features."""
    questions, _, options = _asked(runtime, world, clip)
    frames = world.frames(clip)
    runtime.clear_cache()
    start = time.perf_counter()
    _answers(runtime, frames, questions, options)
    return 1e3 * (time.perf_counter() - start)


def _answers(
    runtime: DeviceRuntime, frames: np.ndarray, questions: list[str], options: list[list[str]] | None
) -> list[Answer]:
    if options is None:
        return runtime.answer(frames, questions)
    return runtime.choose(frames, questions, options)


def _score_retrieval(runtime: DeviceRuntime, world: _World) -> dict[str, float]:
    """Compute the expected recall of the query clips by their captions, or of frames by their sentences."""
    from paramcast.video.ranking import expected_recall

    wanted: list[tuple[str, str]] = []
    for clip in world.query:
        for item_id, frames, captions in _items(clip, world):
            runtime.index(item_id, frames)
            wanted += [(item_id, caption) for caption in captions]
    if not wanted:
        raise InputError("the query clips have no captions to search by")
    runtime.retrieve(wanted[0][1])  # embeds the gallery, so that later calls are timed without it
    places = {item_id: place for place, item_id in enumerate(dict.fromkeys(item for item, _ in wanted))}
    scores = np.empty((len(wanted), len(places)))
    times = [_retrieve_ms(runtime, caption, len(places)) for _, caption in wanted[:TIMED]]
    for row, (_, caption) in zip(scores, wanted, strict=True):
        hits = runtime.retrieve(caption, top=len(places))
        row[[places[hit.clip_id] for hit in hits]] = [hit.score for hit in hits]
    recall = expected_recall(scores, np.array([places[item_id] for item_id, _ in wanted]), RANKS)
    return {**{f"r@{k}": value for k, value in recall.items()}, "answer_ms": float(np.median(times))}


def _retrieve_ms(runtime: DeviceRuntime, caption: str, top: int) -> float:
    """Measure the milliseconds of a search by a text, with an empty cache of features."""
    runtime.clear_cache()
    start = time.perf_counter()
    runtime.retrieve(caption, top=top)
    return 1e3 * (time.perf_counter() - start)


def _items(clip: Clip, world: _World) -> list[tuple[str, np.ndarray, list[str]]]:
    """Return the items of a clip to index, each as (id, frames, sentences that should find the item)."""
    if clip.frame_captions:
        frames, sentences = world.frames(clip), world.sentences(clip.frame_captions)
        if len(frames) != len(sentences):
            raise clip.error(f"{len(sentences)} frame_captions, but the model reads {len(frames)} frames")
        return [
            (f"{clip.id}#{place}", frames[place : place + 1], [sentence])
            for place, sentence in enumerate(sentences)
        ]
    captions = world.sentences(clip.captions)
    return [(clip.id, world.frames(clip), captions)] if captions else []


def _peak_mb() -> float | None:
    """Return the peak memory of this process in MB; None on Windows.

    On Linux, VmHWM is used: `ru_maxrss` counts the parent's memory until the new program is loaded.
    """
    if sys.platform == "win32":
        return None
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024 / 1e6
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def _summary(figures: dict[str, Any]) -> str:
    parts = [f"{figures['device']}:"]
    for metric, value in figures["base"].items():
        unit = "ms" if metric.endswith("_ms") else "%"
        own = f" -> {figures['own'][metric]:.1f}" if "own" in figures else ""
        parts.append(f"{metric} {value:.1f}{own} {unit},")
    if "adapt_ms" in figures:
        parts.append(
            f"adapted in {figures['adapt_ms']:.1f} ms with {figures['bytes_up']} bytes up "
            f"and {figures['bytes_down']} down"
        )
    else:
        parts.append("not adapted")
    return " ".join(parts)
