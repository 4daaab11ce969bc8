"""Evaluation with controls, which show whether a gain comes from adaptation.

A hypernetwork that is conditioned on what it is scored on is only a bigger model. So every metric is also
computed on the same devices without an update (`base`), with a hypernetwork that was trained in the same way
on a fixed context (`constant`), with another device's update (`shuffled`), and with a hypernetwork that is
given the true domain (`oracle`). For tasks with answers, the base model also answers about black pictures
(`black`) and about an average picture (`question_only`). This shows how much it answers without seeing the
clip. `ceiling` is the share of the questions for which the model knows a right answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from paramcast.errors import InputError
from paramcast.pictures import SHORT_SIDE
from paramcast.training.controls import CONDITIONS, Metric, Result, derangement
from paramcast.training.fitting import one_thread
from paramcast.training.parallel import bar_line, run_parallel
from paramcast.video.data.collection import Collection
from paramcast.video.shifts.fleet import Device, Fleet, Split, build_fleet
from paramcast.video.training.arrays import ClipData, DeviceData
from paramcast.video.training.bank import Bank
from paramcast.video.training.episodes import SUPPORT_SIZES, generate, one_of
from paramcast.video.training.model import TrainedModel
from paramcast.video.training.plan import check_sentences
from paramcast.video.training.views import UplinkTable, Views


@dataclass(frozen=True)
class Evaluation:
    """Devices and results of an evaluation."""

    fleet: Fleet
    results: tuple[Result, ...]


def evaluate(
    model: TrainedModel,
    collection: Collection,
    *,
    shift: str = "category",
    devices: int = 100,
    support_sizes: Sequence[int] = SUPPORT_SIZES,
    seed: int = 0,
) -> Evaluation:
    """Score simulated test devices under every control.

    Clips that training or model selection used are never drawn. With the camera shift, every other device
    has a camera of a kind that training never used.

    Args:
        model: A model that was trained by `paramcast train`.
        collection: Any collection with clips for the model's task, also another one than in training.
        shift: 'none', or shifts joined by '+', such as 'category+camera'.
        devices: Number of devices.
        support_sizes: Numbers of support clips of a device; each gives rows of results.
        seed: Seed of the devices and of the shuffling.

    Raises:
        InputError: The collection has too few clips for the task, or the shift is unknown.
    """
    fleet = test_fleet(model, collection, shift, devices, max(support_sizes), seed)
    store = model.store(collection)
    gallery_ids = test_clips(model, collection)
    check_sentences([collection.by_id[clip] for clip in gallery_ids], model.config.frames)
    bank, gallery, data = Views(
        collection,
        gallery_ids if model.task.searches else (),
        fleet.devices,
        model.task,
        model.answer_numbers,
        model.config.categories,
        scored=True,
    ).load(store)
    table = model.table(bank)
    scorer = _Scorer(model, bank, gallery, data, table)
    order = derangement(len(data), seed)
    jobs: dict[str, Callable[[], list[dict[Metric, float]]]] = {
        "base": partial(scorer.scores, "base", None),
        "constant": partial(scorer.scores, "constant", generate(model.adaptors["constant"], table, data, 1)),
        # The oracle is an upper reference, so its gate is not used.
        "oracle": partial(
            scorer.scores,
            "oracle",
            generate(model.adaptors["truth"], table, data, max(support_sizes), gate=False),
        ),
    }
    if model.task.has_answers:
        black = store.image(np.zeros((1, SHORT_SIDE, SHORT_SIDE, 3), np.uint8))[0]
        jobs |= {
            "black": partial(scorer.seeing(black).scores, "black", None),
            "question_only": partial(scorer.seeing(model.image_uplink.mean).scores, "question only", None),
            "ceiling": scorer.ceiling,
        }
    fixed = tuple(jobs)
    for support in support_sizes:
        packages = generate(model.adaptor, table, data, support)
        shuffled = {name: tensor[order] for name, tensor in packages.items()}
        jobs[f"own {support}"] = partial(scorer.scores, f"own, {support} clips", packages)
        jobs[f"shuffled {support}"] = partial(scorer.scores, f"shuffled, {support} clips", shuffled)
    with one_thread():
        found = dict(zip(jobs, run_parallel(list(jobs.values())), strict=True))
    results = []
    for support in support_sizes:
        controls = {name: found[name] for name in fixed} | {
            name: found[f"{name} {support}"] for name in ("own", "shuffled")
        }
        for metric in controls["own"][0]:
            values = {name: np.array([figures[metric] for figures in controls[name]]) for name in controls}
            results.append(Result(metric, support, tuple(d.device.id for d in data), values))
    return Evaluation(fleet, tuple(results))


def test_fleet(
    model: TrainedModel, collection: Collection, shift: str, devices: int, support: int, seed: int
) -> Fleet:
    """Draw the devices of an evaluation from clips that training never used."""
    return draw_fleet(model, collection, "test", test_clips(model, collection), shift, devices, support, seed)


def draw_fleet(
    model: TrainedModel,
    collection: Collection,
    split: Split,
    clips: Sequence[str],
    shift: str,
    devices: int,
    support: int,
    seed: int,
) -> Fleet:
    """Draw devices of one split from `clips`, which differ in `shift`; see `evaluate`.

    Raises:
        InputError: There are too few clips for the task, no clip has a category where the shift needs it, or
            the shift is unknown or not possible for the task.
    """
    shifts = () if shift == "none" else tuple(shift.split("+"))
    if "habits" in shifts and not model.task.has_answers:
        raise InputError(
            f"the shift habits changes answers, and task {model.config.task!r} has no list of its own answers"
        )
    if not clips:
        raise InputError(
            f"collection {collection.name!r} has no clip for task {model.config.task!r} that a "
            f"{split} device may use"
        )

    if "category" in shifts and not any(collection.by_id[clip].category for clip in clips):
        raise InputError(
            f"no clip of collection {collection.name!r} that a {split} device may use has a "
            "`category`, in which the devices of shift 'category' differ; add it to the lines, or "
            "give another --shift"
        )

    def drawn(held_out: bool) -> tuple[Device, ...]:
        return build_fleet(
            collection,
            shifts=shifts,
            devices={split: devices},
            seed=seed,
            support=support,
            held_out_cameras=held_out,
            pools={split: clips},
            usable=model.task.usable,
        ).devices

    known = drawn(held_out=False)
    if "camera" in shifts and split == "test":
        unseen = drawn(held_out=True)
        known = tuple(unseen[i] if i % 2 else device for i, device in enumerate(known))
    return Fleet(known, shifts, seed)


def test_clips(model: TrainedModel, collection: Collection) -> list[str]:
    """List the ids of clips for the task that neither training nor model selection used.

    Clips of a group that training or model selection used are left out as well.
    """
    used = {clip for split in ("train", "validation") for clip in model.config.clips[split]}
    seen = {group for clip, group in collection.groups.items() if clip in used}
    return [
        clip.id
        for clip in collection.clips
        if clip.id not in used and collection.groups[clip.id] not in seen and model.task.usable(clip)
    ]


@dataclass(frozen=True)
class _Scorer:
    model: TrainedModel
    bank: Bank
    gallery: Sequence[ClipData]
    devices: Sequence[DeviceData]
    table: UplinkTable

    def scores(self, control: str, packages: dict[str, Tensor] | None) -> list[dict[Metric, float]]:
        """Compute the metrics of every device under its update."""
        adaptor = self.model.adaptors[CONDITIONS.get(control, "support")]
        return [
            self.model.task.score(
                adaptor.adapted,
                None if packages is None else one_of(packages, place),
                self.bank,
                device,
                self.gallery,
            )
            for place, device in enumerate(
                tqdm(self.devices, desc=control, unit="device", disable=None, position=bar_line())
            )
        ]

    def seeing(self, picture: np.ndarray) -> _Scorer:
        """Replace all frames by the features `picture` (Di,), to see how much the questions alone reveal."""
        frames = torch.from_numpy(np.asarray(picture, np.float32)) * self.bank.mask[..., None]
        return replace(self, bank=replace(self.bank, frames=frames))

    def ceiling(self) -> list[dict[Metric, float]]:
        """Compute, for each device, the percent of the questions for which the model knows a right answer."""
        found = []
        for device in self.devices:
            known = [bool((row >= 0).any()) for clip in device.query for row in clip.right]
            share = 100 * float(np.mean(known))
            found.append({Metric("top1"): share, Metric("consensus"): share})
        return found
