"""The plan of a training run: its clips, its folds, and the devices that it simulates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from paramcast.errors import InputError
from paramcast.training.seeding import seed_from
from paramcast.training.team import ALONE, Team
from paramcast.video.data.answers import classes, normalized
from paramcast.video.data.cloze import with_clozes
from paramcast.video.data.collection import Clip, Collection
from paramcast.video.shifts.fleet import Device, split_clips
from paramcast.video.shifts.vocabulary import answer_words
from paramcast.video.tasks import Task, make_task
from paramcast.video.training.fleets import MIX, PLAIN, SPOILT, SPOKEN, training_fleet
from paramcast.video.training.options import TrainingOptions
from paramcast.video.training.views import Views

FOLDS = 4
"""Number of folds for cross-fitting."""

MAXIMUM_ANSWERS = 1000
ITEMS_A_CLIP = 8  # maximum, for clips of training devices
PLAIN_DEVICES = 5  # for each requested device: they need no features of their own
SPOKEN_DEVICES = 6  # for each device with a vocabulary alone: they need no features of pictures
PLAIN_SHARE = sum(PLAIN.values()) / sum(MIX.values())  # of the episodes
VALIDATION_DEVICES = 40  # at most; fewer if fewer training devices are requested


class Plan:
    """All random choices of a training run, made before anything is encoded.

    In a team, each worker has a part of the training clips, and devices with these clips. All workers have
    the same validation clips, answers and folds.

    Attributes:
        pools: Split -> ids of the clips that the whole run may use.
        train: Ids of this worker's training clips.
        devices, plain: For each fold, the simulated devices with a camera or a vocabulary, and the devices
            without.
        validation: Devices of the validation clips.
        made: This worker's clips with questions made from captions, for base models.
        shown: The collection with the clips of `made`.

    Raises:
        InputError: The collection, or this worker's part of it, has too few clips for the task.
    """

    def __init__(self, collection: Collection, options: TrainingOptions, team: Team = ALONE) -> None:
        self.collection, self.options, self.team = collection, options, team
        self.task: Task = make_task(options.task)
        splits = split_clips(collection, options.seed)
        self.pools = {
            split: [clip for clip in clips if self.task.usable(collection.by_id[clip])]
            for split, clips in splits.items()
        }
        self.train = [clip for clip in self.pools["train"] if team.has(clip)]
        if not self.train or not self.pools["validation"]:
            raise InputError(_too_few(collection, self.task, len(self.train)))
        check_sentences(
            [collection.by_id[clip] for ids in self.pools.values() for clip in ids], options.frames
        )
        groups = collection.groups
        self.fold_of = {clip: seed_from("fold", options.seed, groups[clip]) % FOLDS for clip in self.train}
        self.answers = self._answers() if self.task.has_answers else ()
        self.categories = tuple(sorted({c.category for c in collection.clips if c.category}))
        self.made = self._cloze_clips([clip for clip in splits["train"] if team.has(clip)])
        self.shown = collection.extended(self.made)
        count = options.devices
        spoilt, spoken = (
            self._drawn(team.part(round(times * sum(mix.values()) / sum(MIX.values()) * count)), mix)
            for times, mix in ((1, SPOILT), (SPOKEN_DEVICES, SPOKEN))
        )
        self.devices = [[*one, *other] for one, other in zip(spoilt, spoken, strict=True)]
        self.plain = self._drawn(team.part(PLAIN_DEVICES * count), PLAIN)
        pool = {"validation": self.pools["validation"]}
        held, seed = min(VALIDATION_DEVICES, count), options.seed * 1000 + 999
        self.validation = training_fleet(collection, self.task, pool, held, seed, "validation")

    def views(self) -> Views:
        """Make views of unchanged clips (training, validation, made) and of clips as the devices see them."""
        groups = [*self.devices, *self.plain, self.validation]
        return Views(
            self.shown,
            [*self.train, *self.pools["validation"], *(clip.id for clip in self.made)],
            [device for group in groups for device in group],
            self.task,
            {answer: number for number, answer in enumerate(self.answers)},
            self.categories,
            ITEMS_A_CLIP,
        )

    def _answers(self) -> tuple[str, ...]:
        counts = Counter(
            item.answer
            for clip in self.pools["train"]
            for item in self.task.items(self.collection.by_id[clip])
            if item.answer
        )
        common = classes(counts)[:MAXIMUM_ANSWERS]
        known = set(map(normalized, common))
        return (*common, *(word for word in answer_words(common) if normalized(word) not in known))

    def _cloze_clips(self, train: Sequence[str]) -> list[Clip]:
        """Make clips with questions from captions, of training clips that the task cannot use otherwise."""
        if not self.task.has_answers:
            return []
        clips = [self.collection.by_id[clip] for clip in train]
        return with_clozes((clip for clip in clips if not self.task.usable(clip)), self.answers)

    def _drawn(self, count: int, mix: Mapping[tuple[str, ...], float]) -> list[list[Device]]:
        """Draw about `count` devices; return a list for each fold."""
        groups = []
        for fold in range(FOLDS):
            pool = {"train": [clip for clip in self.train if self.fold_of[clip] == fold]}
            share, seed = max(1, count // FOLDS), self.options.seed * 1000 + fold * 10
            groups.append(training_fleet(self.collection, self.task, pool, share, seed, "train", mix))
        return groups


def check_sentences(clips: Iterable[Clip], frames: int) -> None:
    """Check that enough frames are read to have the frame of every sentence in frame_captions.

    Raises:
        CollectionError: A clip has more pictures, and a sentence for each, than `frames`.
    """
    for clip in clips:
        if len(clip.frame_captions) > frames:
            raise clip.error(
                f"{len(clip.frame_captions)} sentences in frame_captions, one per picture, but "
                f"--frames is {frames}; give `paramcast train --frames {len(clip.frame_captions)}` "
                "or more"
            )


def _too_few(collection: Collection, task: Task, train: int) -> str:
    """Explain why a task cannot be trained."""
    serving = sum(task.usable(clip) for clip in collection.clips)
    if not serving:
        return (
            f"no clip of collection {collection.name!r} has {task.needs}, which task {task.name!r} learns "
            "from; see: paramcast data check"
        )
    return (
        f"collection {collection.name!r} has too few clips for task {task.name!r}: {serving} of "
        f"{len(collection.clips)} have {task.needs}, and {train} of these are for training, the others for "
        "validation and test; some hundred are needed"
    )
