"""Two-stage training: base models on folds of the clips, then adaptors on devices of the fold left out.

An adaptor that is trained on clips which the base model was trained on learns from features that the base has
memorised, and ends below the base on new devices. So training is cross-fitted: with the clips in folds, fold
k's devices are adapted from a base model that never saw fold k. The adaptor then serves the base model of all
folds. (Keeping clips from a single base model instead cost the base and the adaptor: docs/log.md.)
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paramcast.adaptor import Adaptor
from paramcast.adaptor.adaptor import CENTRE_DIMS
from paramcast.data.cameras import CAMERA_DIMS
from paramcast.data.cloze import with_clozes
from paramcast.data.collection import Clip, Collection
from paramcast.data.fleet import Device, split_clips
from paramcast.data.seeding import seed_from
from paramcast.data.vocabulary import VOCABULARY_WORDS, answer_words
from paramcast.errors import InputError
from paramcast.files import write_json
from paramcast.models.parts import FeatureNorm
from paramcast.training.arrays import ClipData, DeviceData
from paramcast.training.episodes import Lessons, generate, score_devices
from paramcast.training.fitting import Schedule, fit
from paramcast.training.fleets import training_fleet
from paramcast.training.model import CONDITIONS, ModelConfig, TrainedModel, feature_store
from paramcast.training.tasks import Task, make_task
from paramcast.training.uplink import IMAGE_DIM, TEXT_DIM, Uplink
from paramcast.training.views import UplinkTable, load_views

MAXIMUM_ANSWERS = 1000
VALIDATION_SUPPORTS = (1, 8)  # an adaptor has to do well with little and with much
SHIFTED_SHARE = 0.3  # of the base model's batches: clips as training devices see them
CLOZE_SHARE = 0.25  # likewise: questions made from captions
ITEMS_A_CLIP = 8  # of a training device's clip
FOLDS = 4  # of the cross-fitting
VALIDATIONS = 4  # of an adaptor; at more of them, one would be chosen for its luck
BETA = 0.1  # weight of the ADR's loss


@dataclass(frozen=True)
class TrainingOptions:
    """What a run is asked to do; a resumed run has to be asked the same.

    Attributes:
        task: 'qa' or 'retrieval'.
        form: Of the generated parameters.
        seed: Of splits, devices and training.
        image_encoder, text_encoder: Names of the trunks.
        frames, sampling: How frames are taken from a clip.
        devices: Training devices.
        adaptor_steps: Optimiser steps of each adaptor.
    """

    task: str
    form: str = "codes"
    seed: int = 0
    image_encoder: str = "efficientnet-lite0"
    text_encoder: str = "minilm-l6-int8"
    frames: int = 8
    sampling: str = "uniform"
    devices: int = 200
    adaptor_steps: int = 400


def train(collection: Collection, out: Path, options: TrainingOptions) -> TrainedModel:
    """Train a base model and its adaptors, and save them to `out`.

    A run that was killed goes on from its last checkpoint; a finished one is loaded.

    Raises:
        InputError: The collection does not serve the task, or `out` holds a run with other options.
    """
    run = {"collection": collection.name, "clips": len(collection.clips), **asdict(options)}
    if _same_run(out, run) and (out / "config.json").exists():
        return TrainedModel.load(out)
    work = out / "checkpoints"
    work.mkdir(parents=True, exist_ok=True)
    write_json(out / "run.json", run)
    data = _Data(collection, options)
    model = data.new_model()
    with _one_thread():
        bases, scores = _train_bases(model, data, work)
        scores |= _train_adaptors(model, data, bases, work)
    model.config = replace(model.config, scores=scores)
    model.save(out)
    shutil.rmtree(work)
    return model


def _same_run(out: Path, run: Mapping[str, object]) -> bool:
    path = out / "run.json"
    if not path.exists():
        return False
    before = json.loads(path.read_text(encoding="utf-8"))
    if before != run:
        changed = ", ".join(sorted(key for key in {*before, *run} if before.get(key) != run.get(key)))
        raise InputError(
            f"{out} holds a run with other settings ({changed}); choose another folder or remove it"
        )
    return True


@dataclass(frozen=True)
class _Lessons:
    """A base model's: clips as they are, as devices see them, and with questions made from captions."""

    plain: Sequence[ClipData]
    shifted: Sequence[ClipData]
    clozes: Sequence[ClipData]

    def draw(self, rng: np.random.Generator) -> Sequence[ClipData]:
        """Where the next batch comes from."""
        place = rng.random()
        if place < SHIFTED_SHARE:
            return self.shifted or self.plain
        return (place < SHIFTED_SHARE + CLOZE_SHARE and self.clozes) or self.plain


class _Data:
    """Everything that training reads: clips and devices as rows, by fold."""

    def __init__(self, collection: Collection, options: TrainingOptions) -> None:
        self.options = options
        self.collection = collection
        self.task: Task = make_task(options.task)
        self.pools = {
            split: [clip for clip in clips if self.task.usable(collection.by_id[clip])]
            for split, clips in split_clips(collection, options.seed).items()
        }
        if not self.pools["train"] or not self.pools["validation"]:
            raise InputError(
                f"collection {collection.name!r} has too few clips for task {options.task!r}; "
                "see: paramcast data check"
            )
        self.fold_of = {clip: seed_from("fold", options.seed, clip) % FOLDS for clip in self.pools["train"]}
        self.answers = self._answers() if self.task.has_answers else ()
        self.categories = tuple(sorted({c.category for c in collection.clips if c.category}))
        self._load()

    def new_model(self) -> TrainedModel:
        """An untrained model with its norms and uplinks fitted."""
        frames = self.bank.all_frames([clip.row for clip in self.clips])
        rows = np.unique(np.concatenate([clip.items[:, 1] for clip in self.clips]))
        texts = self.bank.texts[rows]
        config = ModelConfig(
            task=self.options.task,
            form=self.options.form,
            image_encoder=self.options.image_encoder,
            text_encoder=self.options.text_encoder,
            image_dim=frames.shape[1],
            text_dim=texts.shape[1],
            frames=self.options.frames,
            sampling=self.options.sampling,
            answers=self.answers,
            categories=self.categories,
            seed=self.options.seed,
            clips=self.pools,
            collection=self.collection.name,
            truth_dim=len(self.categories) + CAMERA_DIMS + VOCABULARY_WORDS,
        )
        torch.manual_seed(seed_from("model", self.options.seed) % 2**62)
        image, text = Uplink.fit(frames.numpy(), IMAGE_DIM), Uplink.fit(texts.numpy(), TEXT_DIM)
        model = TrainedModel(config, image, text)
        for name, module in model.base.named_modules():
            if isinstance(module, FeatureNorm):
                module.fit(texts if name.endswith("text_norm") else frames)
        return model

    def seen_by(self, fold: int | None) -> _Lessons:
        """What the base model that leaves out `fold` may see."""
        plain = [clip for clip in self.clips if self.fold_of[clip.clip_id] != fold]
        shifted = [
            clip
            for other, devices in enumerate(self.devices)
            if other != fold
            for device in devices
            if device.device.cameras or device.device.vocabulary
            for clip in device.clips
        ]
        return _Lessons(plain, shifted, self.clozes)

    def _answers(self) -> tuple[str, ...]:
        counts = Counter(
            item.answer
            for clip in self.pools["train"]
            for item in self.task.items(self.collection.by_id[clip])
            if item.answer
        )
        common = [answer for answer, _ in counts.most_common(MAXIMUM_ANSWERS)]
        return (*common, *answer_words(common))

    def _cloze_clips(self) -> list[Clip]:
        """Training clips that nobody asked about, with questions made from their captions."""
        if not self.task.has_answers:
            return []
        clips = [self.collection.by_id[c] for c in split_clips(self.collection, self.options.seed)["train"]]
        return with_clozes((clip for clip in clips if not self.task.usable(clip)), self.answers)

    def _load(self) -> None:
        options, train = self.options, self.pools["train"]
        made = self._cloze_clips()
        folds: list[list[Device]] = []
        for fold in range(FOLDS):
            pool = {"train": [clip for clip in train if self.fold_of[clip] == fold]}
            count, seed = max(1, options.devices // FOLDS), options.seed * 1000 + fold * 10
            folds.append(training_fleet(self.collection, self.task, pool, count, seed, "train"))
        pool = {"validation": self.pools["validation"]}
        count = min(40, options.devices)
        held = training_fleet(
            self.collection, self.task, pool, count, options.seed * 1000 + 999, "validation"
        )
        collection = self.collection.extended(made)
        self.bank, clips, devices = load_views(
            feature_store(collection, options),
            collection,
            [*train, *self.pools["validation"], *(clip.id for clip in made)],
            [*(device for fold in folds for device in fold), *held],
            self.task,
            {answer: number for number, answer in enumerate(self.answers)},
            self.categories,
            ITEMS_A_CLIP,
        )
        self.clips, clips = clips[: len(train)], clips[len(train) :]
        self.gallery, clips = clips[: len(self.pools["validation"])], clips[len(self.pools["validation"]) :]
        self.clozes = clips
        self.devices: list[list[DeviceData]] = []
        for drawn in folds:
            self.devices.append(devices[: len(drawn)])
            devices = devices[len(drawn) :]
        self.validation = devices


def _train_bases(
    model: TrainedModel, data: _Data, work: Path
) -> tuple[list[dict[str, Tensor]], dict[str, float]]:
    """Base models without each fold in turn, aligned with that of all folds, which is left in `model`."""
    initial = _copied(model.base)
    scores = {"base": _train_base(model, data, None, work)}
    final, states = _copied(model.base), []
    for fold in range(FOLDS):
        model.base.load_state_dict(initial)
        _train_base(model, data, fold, work)
        data.task.align(model.base, final, data.bank, data.clips)
        states.append(_copied(model.base))
    model.base.load_state_dict(final)
    return states, scores


def _train_base(model: TrainedModel, data: _Data, fold: int | None, work: Path) -> float:
    lessons = data.seen_by(fold)
    texts = sum(len(clip.items) + len(clip.hints) // 4 for clip in lessons.plain)
    every = max(1, texts // data.task.base_batch)
    return fit(
        "base" if fold is None else f"base without fold {fold + 1} of {FOLDS}",
        model.base,
        _base_loss(model, data, lessons),
        _base_score(model, data),
        Schedule(data.task.base_epochs * every, every),
        data.options.seed,
        work / f"base-{'all' if fold is None else fold}.safetensors",
    )


def _base_loss(
    model: TrainedModel, data: _Data, lessons: _Lessons
) -> Callable[[np.random.Generator], Tensor]:
    def loss(rng: np.random.Generator) -> Tensor:
        return data.task.base_loss(model.base, data.bank, lessons.draw(rng), rng)

    return loss


def _base_score(model: TrainedModel, data: _Data) -> Callable[[], float]:
    return lambda: score_devices(data.task, model.adaptor, data.bank, data.validation, data.gallery, None)


def _train_adaptors(
    model: TrainedModel, data: _Data, bases: Sequence[dict[str, Tensor]], work: Path
) -> dict[str, float]:
    """Each adaptor on devices of the folds that its base model has not seen."""
    final = _copied(model.base)
    _set_centres(model, data)
    table = UplinkTable.build(data.bank, model.image_uplink, model.text_uplink)
    lessons = [
        Lessons(
            data.task,
            data.bank,
            table,
            devices,
            [clip for clip in data.clips if data.fold_of[clip.clip_id] == fold],
        )
        for fold, devices in enumerate(data.devices)
    ]
    model.base.requires_grad_(False)
    scores = {}
    for condition in CONDITIONS:
        adaptor = model.adaptors[condition]

        def loss(rng: np.random.Generator, adaptor: Adaptor = adaptor) -> Tensor:
            fold = int(rng.integers(len(lessons)))
            model.base.load_state_dict(bases[fold])
            model.base.train()
            return lessons[fold].loss(adaptor, rng, BETA)

        def validate(adaptor: Adaptor = adaptor) -> float:
            model.base.load_state_dict(final)
            model.base.eval()
            found = []
            for support in VALIDATION_SUPPORTS:
                packages = generate(adaptor, table, data.validation, support)
                found.append(
                    score_devices(data.task, adaptor, data.bank, data.validation, data.gallery, packages)
                )
            return float(np.mean(found))

        steps = data.options.adaptor_steps
        scores[condition] = fit(
            f"adaptor ({condition})",
            adaptor,
            loss,
            validate,
            Schedule(steps, max(1, steps // VALIDATIONS)),
            data.options.seed,
            work / f"adaptor-{condition}.safetensors",
        )
    model.base.load_state_dict(final)
    model.base.requires_grad_(True)
    return scores


@contextmanager
def _one_thread() -> Iterator[None]:
    """The layers are small: further threads would wait longer than they work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _set_centres(model: TrainedModel, data: _Data) -> None:
    """Let the centre's directions be the leading ones of the features."""
    for adaptor in model.adaptors.values():
        for place, layer in enumerate(data.task.centred):
            uplink = (model.image_uplink, model.text_uplink)[place]
            effects = data.task.effects(model.base, layer, torch.from_numpy(uplink.directions[:CENTRE_DIMS]))
            before, behind = place * CENTRE_DIMS, (1 - place) * CENTRE_DIMS
            assert adaptor.centre
            adaptor.centre.set_basis(layer, F.pad(effects.detach(), (0, 0, before, behind)))


def _copied(module: nn.Module) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in module.state_dict().items()}
