"""Training as a whole: killed at any stage it ends at the same model; what it makes is kept and served."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import fields, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import train_run
from filelock import FileLock
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from paramcast.artifact.server_read import OnnxHypernetwork
from paramcast.bench.processes import cloud_service
from paramcast.bench.untrained import untrained_model
from paramcast.device import CloudClient, DeviceRuntime
from paramcast.errors import InputError
from paramcast.hypernet import ContextInputs
from paramcast.hypernet.forms import FORMS
from paramcast.protocol import AdaptRequest, Package
from paramcast.video.data.collection import Clip, Collection
from paramcast.video.data.frames import read_frames
from paramcast.video.tasks import TASKS
from paramcast.video.training.artifact import export_artifact
from paramcast.video.training.export import export_bundle
from paramcast.video.training.model import ModelError, TrainedModel
from paramcast.video.training.pipeline import train

PATIENCE_S = 120.0
POLL_S = 0.001
SUPPORT = 3
TASK = "retrieval"  # the quickest one to train


@pytest.fixture(scope="module")
def trained(world: Path, everyones: Path) -> Callable[[str], Path]:
    """The folder of a model for a task, from an undisturbed run, which all of pytest's workers share."""

    def model(task: str) -> Path:
        folder = everyones / f"trained-{task}"
        with FileLock(everyones / "trained.lock"):  # a finished run is loaded
            train_run.run(world, folder, task)
        return folder

    return model


# Killed and started again


class Run:
    """A training run in a process of its own, with its own cache of features."""

    def __init__(self, world: Path, folder: Path) -> None:
        self.out, self.cache = folder / "model", folder / "cache"
        self._command = [sys.executable, train_run.__file__, str(world), str(self.out), TASK]
        self._environment = os.environ | {"PARAMCAST_CACHE": str(self.cache)}

    def kill_when(self, there: Callable[[], object]) -> int:
        """Start it, kill it as soon as something is there; gives its exit code."""
        with subprocess.Popen(self._command, env=self._environment, stderr=subprocess.DEVNULL) as process:
            end = time.monotonic() + PATIENCE_S
            while not there() and process.poll() is None and time.monotonic() < end:
                time.sleep(POLL_S)
            process.kill()
            return process.wait()

    def finish(self) -> None:
        done = subprocess.run(self._command, env=self._environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def checkpoints(self, stage: str) -> list[Path]:
        return sorted(self.out.glob(f"checkpoints/{stage}*.safetensors"))

    def features(self) -> int:
        """Bytes of cached features."""
        path = self.cache / "features" / "features.sqlite"
        return path.stat().st_size if path.exists() else 0


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is a signal on POSIX only")
@pytest.mark.slow
def test_killed_at_every_stage_it_ends_at_the_same_files(
    world: Path, trained: Callable[[str], Path], tmp_path: Path
) -> None:
    run = Run(world, tmp_path)
    stages: dict[str, Callable[[], object]] = {
        "features": lambda: run.features() > 100_000,
        "base models": lambda: len(run.checkpoints("base")) >= 2,
        "adaptors": lambda: len(run.checkpoints("adaptor")) >= 1,
    }
    for stage, reached in stages.items():
        assert run.kill_when(reached) == -signal.SIGKILL, stage
        assert reached(), stage
        for path in (*run.checkpoints("base"), *run.checkpoints("adaptor")):
            with safe_open(path, "pt") as whole:  # no reader meets half a file
                assert whole.keys()
        with pytest.raises(ModelError, match="no complete model"):
            TrainedModel.load(run.out)
    with pytest.raises(InputError, match=r"other settings \(seed\)"):
        train(Collection.open(world), run.out, replace(train_run.options(TASK), seed=2))
    (run.out / ".base.safetensors.half.tmp").write_bytes(b"what a kill leaves of a file")
    run.finish()
    undisturbed = trained(TASK)
    assert contents(run.out) == contents(undisturbed)
    assert TrainedModel.load(run.out).sha256() == TrainedModel.load(undisturbed).sha256()


def contents(folder: Path) -> dict[str, str]:
    """File -> its sha256."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in files}


OTHER: dict[str, Any] = {
    "task": "qa",
    "form": "lowrank",
    "seed": 7,
    "image_encoder": "efficientnet-lite0-int8",
    "text_encoder": "another",
    "frames": 3,
    "sampling": "scene",
    "devices": 9,
    "adaptor_steps": 6,
    "form_options": {"count": 8},
    "evidence": "anchor",
    "anchors": 2,
}


def test_every_option_is_tried() -> None:
    assert OTHER.keys() == {field.name for field in fields(train_run.options(TASK))}


@pytest.mark.parametrize("name", OTHER)
def test_a_run_does_not_go_on_with_other_options(
    world: Path, trained: Callable[[str], Path], name: str
) -> None:
    before = contents(trained(TASK))
    with pytest.raises(InputError, match=rf"holds a run with other settings \({name}\); choose another"):
        train(Collection.open(world), trained(TASK), replace(train_run.options(TASK), **{name: OTHER[name]}))
    assert contents(trained(TASK)) == before


def test_a_run_does_not_go_on_with_another_collection(
    world: Path, trained: Callable[[str], Path], tmp_path: Path
) -> None:
    (tmp_path / "clips.jsonl").write_text((world / "clips.jsonl").read_text().splitlines()[0] + "\n")
    for path in world.iterdir():
        if path.name != "clips.jsonl":
            (tmp_path / path.name).symlink_to(path)
    with pytest.raises(InputError, match=r"other settings \(clips, collection, content\)"):
        train(Collection.open(tmp_path), trained(TASK), train_run.options(TASK))


# Kept and read again


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("form", FORMS)
def test_what_is_saved_makes_the_same_packages(form: str, task: str, tmp_path: Path) -> None:
    model = untrained_model(form, task)
    model.save(tmp_path)
    again = TrainedModel.load(tmp_path)
    assert again.sha256() == model.sha256()
    assert again.config == replace(model.config, clips=again.config.clips)
    assert dict(again.config.clips) == dict(model.config.clips)
    known = context(model)
    for condition, adaptor in model.adaptors.items():
        with torch.no_grad():
            (ours, _), (theirs, _) = adaptor(known), again.adaptors[condition](known)
        assert ours.keys() == theirs.keys()
        for name, values in ours.items():
            assert torch.equal(values, theirs[name])
            assert condition != "support" or values.any()


def test_models_of_before_there_was_a_choice_of_evidence_load(tmp_path: Path) -> None:
    model = untrained_model("lowrank", "qa")
    model.save(tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text())
    for name in ("evidence", "anchors", "form_options"):
        del stored[name]
    (tmp_path / "config.json").write_text(json.dumps(stored))
    file = tmp_path / "adaptor-support.safetensors"
    younger = {f"context.reasoner.{name}" for name in ("gain", "level", "temperature")}
    tensors = load_file(file)
    assert younger < tensors.keys()
    save_file({name: values for name, values in tensors.items() if name not in younger}, file)
    again = TrainedModel.load(tmp_path)
    assert (again.config.evidence, again.config.anchors, again.config.form_options) == ("reasoner", 1, {})
    known = context(model)
    ours, theirs = model.adaptor.generate(known), again.adaptor.generate(known)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(("name", "value"), [("evidence", "clip"), ("anchors", 2)])
def test_what_devices_do_not_send_is_not_exported(name: str, value: Any, tmp_path: Path) -> None:
    model = untrained_model("codes", "qa")
    model.config = replace(model.config, **{name: value})
    with pytest.raises(InputError, match="devices send one anchor frame"):
        export_bundle(model, tmp_path / "bundle")


def context(model: TrainedModel) -> ContextInputs:
    """Two devices with three clips each."""
    drawn = torch.Generator().manual_seed(0)
    image, text = model.image_uplink.matrix.shape[1], model.text_uplink.matrix.shape[1]
    there = torch.ones(2, 3, dtype=torch.bool)
    anchors, queries = (torch.randn(2, 3, dim, generator=drawn) for dim in (image, text))
    truth = torch.randn(2, model.config.truth_dim, generator=drawn)
    return ContextInputs(anchors, there, queries, there, None, truth)


# Trained, exported, served, run


@pytest.mark.parametrize("task", TASKS)
def test_a_device_answers_as_torch_does_after_every_adaptation(
    task: str, trained: Callable[[str], Path], world: Path, tmp_path: Path
) -> None:
    model, collection = TrainedModel.load(trained(task)), Collection.open(world)
    torch.manual_seed(0)
    for parameter in model.adaptor.fda.generator.heads.parameters():
        # So few steps may leave them at zero, and then every package would be the base model.
        nn.init.normal_(parameter, std=0.1)
    model.adaptor.gate.threshold.fill_(-torch.inf)  # nobody would gain by such parameters
    artifact = export_artifact(model, tmp_path / "artifact")
    runtime, backend = DeviceRuntime.load(artifact, "cam-1"), OnnxHypernetwork.open(artifact)
    seen, asked = collection.clips[: 2 * SUPPORT], collection.clips[2 * SUPPORT : 2 * SUPPORT + 4]
    said = [outcome(runtime, asked)]
    packages: list[Package] = []
    with cloud_service(artifact, tmp_path / "cloud") as url, CloudClient(url) as cloud:
        for clips in (seen[:SUPPORT], seen[SUPPORT:]):
            for clip in clips:
                runtime.observe(frames_of(clip, runtime), [pair.question for pair in clip.qa])
            request = AdaptRequest.decode(runtime.request().encode())
            packages.append(cloud.adapt(runtime))
            (made,) = backend.generate([request])
            for name, values in made.items():  # int4: within 1/14 of a row's largest magnitude
                bound = np.abs(values).max() / 14 + 1e-5
                np.testing.assert_allclose(packages[-1].tensors[name], values, atol=bound, rtol=0)
            said.append(outcome(runtime, asked))
            assert said[-1] == pytest.approx(by_torch(model, collection, asked, packages[-1]), abs=1e-3)
    assert [package.sequence for package in packages] == [1, 2]
    assert (runtime.status()["sequence"], runtime.status()["support"]) == (2, 2 * SUPPORT)
    base, first, second = (np.array(list(each.values())) for each in said)
    assert np.abs(first - base).max() > 0.01
    assert np.abs(second - first).max() > 0.005  # by far more than device and torch differ


def frames_of(clip: Clip, runtime: DeviceRuntime) -> np.ndarray:
    return read_frames(clip, runtime.bundle.frames, runtime.bundle.sampling)


def offered(clip: Clip) -> list[list[str]]:
    """The right answer and two others, for each question."""
    return [[pair.answer, "seven houses", "green tea"] for pair in clip.qa]


def outcome(runtime: DeviceRuntime, clips: tuple[Clip, ...]) -> dict[tuple[str, str, str], float]:
    """(Clip, text, what is answered or found) -> its probability or cosine."""
    if runtime.bundle.task == "retrieval":
        for clip in clips:
            runtime.index(clip.id, frames_of(clip, runtime))
        texts = [clip.captions[0] for clip in clips]
        return {("", text, hit.clip_id): hit.score for text in texts for hit in runtime.retrieve(text)}
    found = {}
    for clip in clips:
        questions, frames = [pair.question for pair in clip.qa], frames_of(clip, runtime)
        if runtime.bundle.task == "choice":
            answers = runtime.choose(frames, questions, offered(clip))
        else:
            answers = runtime.answer(frames, questions)
        for question, answer in zip(questions, answers, strict=True):
            found[clip.id, question, answer.text] = answer.probability
    return found


def by_torch(
    model: TrainedModel, collection: Collection, clips: tuple[Clip, ...], package: Package
) -> dict[tuple[str, str, str], float]:
    """The same by the trained model under the package's parameters, from the features of training."""
    store = model.store(collection)
    values = {name: torch.tensor(value)[None] for name, value in package.tensors.items()}

    def encoded(texts: list[str]) -> torch.Tensor:
        return torch.tensor(store.texts(texts))

    shown = [torch.tensor(features)[None] for features in store.clips([(clip.id, ()) for clip in clips])]
    masks = [torch.ones(each.shape[:2], dtype=torch.bool) for each in shown]
    found = {}
    with torch.no_grad(), model.adaptor.adapted.use(values):
        module: Any = model.adaptor.adapted.replica
        if model.config.task == "retrieval":
            captions = [clip.captions[0] for clip in clips]
            texts = module.embed_texts(encoded(captions)[None])[0]
            videos = torch.cat([module.embed_clips(*pair) for pair in zip(shown, masks, strict=True)])
            for text, row in zip(captions, texts @ videos.T, strict=True):
                found |= {("", text, clip.id): float(score) for clip, score in zip(clips, row, strict=True)}
            return found
        for clip, frames, mask in zip(clips, shown, masks, strict=True):
            questions = [pair.question for pair in clip.qa]
            asked, names = [encoded(questions)[None]], [list(model.config.answers)] * len(questions)
            if model.config.task == "choice":
                names = offered(clip)
                asked.append(torch.stack([encoded(options) for options in names])[None])
            for question, options, row in zip(
                questions, names, module(frames, mask, *asked)[0].softmax(-1), strict=True
            ):
                found[clip.id, question, options[int(row.argmax())]] = float(row.max())
    return found
