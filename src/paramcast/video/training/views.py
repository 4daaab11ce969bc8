"""From clips and devices to rows of features."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from paramcast.hypernet.context import ContextInputs
from paramcast.protocol import AdaptRequest
from paramcast.protocol.limits import QUERIES_A_CLIP
from paramcast.training.uplink import Uplink, as_received
from paramcast.video.data.answers import normalized
from paramcast.video.data.collection import Clip, Collection
from paramcast.video.data.features import FeatureStore
from paramcast.video.data.options import Distractors
from paramcast.video.shifts.cameras import CAMERA_DIMS
from paramcast.video.shifts.fleet import Device
from paramcast.video.shifts.vocabulary import VOCABULARY_WORDS
from paramcast.video.tasks.base import Item, Task
from paramcast.video.training.arrays import NO_ANSWER, UNKNOWN, ClipData, DeviceData
from paramcast.video.training.bank import Bank, ClipKey


class View:
    """A clip under a device's cameras and words, before it is encoded.

    Args:
        clip: The clip.
        device: Whose; None for nobody's.
        task: Says which texts belong to a clip.
        distractors: Of the collection, for multiple choice.
        most: Most items, and most hints, of a clip.
        scored: Whether the items are those of scoring, or those of training.
    """

    def __init__(
        self,
        clip: Clip,
        device: Device | None,
        task: Task,
        distractors: Distractors,
        most: int | None = None,
        scored: bool = False,
    ) -> None:
        cameras = device.cameras if device else ()
        self.key: ClipKey = (clip.id, cameras, None)
        trained = task.items(clip)[:most]
        found = task.scored_items(clip)[:most] if scored else trained
        self.queries = [_said(item.text, device) for item in trained]
        self.items = [((clip.id, cameras, item.frame), _said(item.text, device)) for item in found]
        self.rights = [_rights(item, device) for item in found]
        self.options = [_options(clip, item, device, distractors, task.options) for item in found]
        self.hints = [_said(text, device) for text in task.hints(clip)[:most]]

    def texts(self) -> list[str]:
        """Every text of the view, once."""
        offered = [option for options in self.options for option in options]
        found = [text for _, text in self.items] + self.queries + offered + self.hints
        return list(dict.fromkeys(found))

    def clip_keys(self) -> list[ClipKey]:
        """Every clip or frame of the view."""
        return [self.key, *(key for key, _ in self.items)]

    def data(self, bank: Bank, answers: Mapping[str, int], options: int) -> ClipData:
        """The same as rows of the bank.

        Args:
            bank: Features.
            answers: Answer as it is compared -> its number.
            options: Columns for options; -1 behind a question's last.
        """
        rights = [
            [_number(answer, offered, answers) for answer in right]
            for right, offered in zip(self.rights, self.options, strict=True)
        ]
        items = [
            [
                bank.clip_rows[key],
                bank.text_rows[text],
                right[0] if right else UNKNOWN,
                *(bank.text_rows[option] for option in offered),
                *([-1] * (options - len(offered))),
            ]
            for (key, text), right, offered in zip(self.items, rights, self.options, strict=True)
        ]
        queries = dict.fromkeys(bank.text_rows[text] for text in self.queries)
        longest = max((len(right) for right in rights), default=0)
        return ClipData(
            self.key[0],
            bank.clip_rows[self.key],
            np.array(list(queries)[:QUERIES_A_CLIP], np.int64),
            np.array(items, np.int64).reshape(len(items), 3 + options),
            np.array([bank.text_rows[text] for text in self.hints], np.int64),
            np.array([right + [NO_ANSWER] * (longest - len(right)) for right in rights], np.int64).reshape(
                len(rights), longest
            ),
        )


Loaded = tuple[Bank, list[ClipData], list[DeviceData]]
"""The bank, the clips as they are, and the devices."""


class Views:
    """Clips as they are, and devices' clips as the devices see them, before they are encoded.

    Args:
        collection: Where clip ids are looked up.
        clips: Ids of clips to be had as they are.
        devices: Whose clips are to be had as they see them.
        task: Says which texts belong to a clip.
        answers: Answer -> its number.
        categories: The categories that a true domain is described by.
        items_a_clip: Most items, and most hints, of a device's clip: fewer texts to encode.
        scored: Whether devices are scored on their clips, or trained.
    """

    def __init__(
        self,
        collection: Collection,
        clips: Sequence[str],
        devices: Sequence[Device],
        task: Task,
        answers: Mapping[str, int],
        categories: Sequence[str],
        items_a_clip: int | None = None,
        scored: bool = False,
    ) -> None:
        # Of answers that are compared as one, the first has the number: the most frequent.
        self._answers = {normalized(answer): number for answer, number in reversed(list(answers.items()))}
        self._categories, self._devices = categories, devices
        wrong = collection.distractors
        self._plain = [View(collection.by_id[clip], None, task, wrong) for clip in clips]
        self._own = [
            [
                View(collection.by_id[clip], device, task, wrong, items_a_clip, scored)
                for clip in (*device.support, *device.query)
            ]
            for device in devices
        ]

    def clip_keys(self) -> Iterator[ClipKey]:
        """Every clip or frame that is seen; again, where it is seen again."""
        return (key for view in self._all() for key in view.clip_keys())

    def load(self, store: FeatureStore) -> Loaded:
        """Encode everything."""
        answers = self._answers
        options = max((len(each) for view in self._all() for each in view.options), default=0)
        bank = Bank.build(store, self.clip_keys(), (text for view in self._all() for text in view.texts()))
        data = [
            DeviceData(
                device,
                tuple(view.data(bank, answers, options) for view in views),
                len(device.support),
                describe_domain(device, self._categories),
            )
            for device, views in zip(self._devices, self._own, strict=True)
        ]
        return bank, [view.data(bank, answers, options) for view in self._plain], data

    def _all(self) -> Iterator[View]:
        return chain(self._plain, *self._own)


def describe_domain(device: Device, categories: Sequence[str]) -> np.ndarray:
    """Return the domain for the oracle: category shares, cameras (severity by kind), words; float32."""
    shares = np.array([device.categories.get(category, 0.0) for category in categories], np.float32)
    cameras = sum((camera.describe() for camera in device.cameras), np.zeros(CAMERA_DIMS, np.float32))
    own = device.answers_in
    words = own.describe() if own else np.zeros(VOCABULARY_WORDS, np.float32)
    return np.concatenate([shares, cameras, words]).astype(np.float32)


@dataclass(frozen=True)
class UplinkTable:
    """Uplink features of every row of a bank, as the cloud receives them.

    Attributes:
        anchors: (R, A, Ui) float32, what is sent of a clip: its A anchor frames, or its mean.
        clips: (R, Ui) float32, of the clip's mean.
        texts: (S, Dt) float32, the trunk's features, from which a clip's mean query is taken.
        image, text: The projections.
        sent: See `build`.
    """

    anchors: np.ndarray
    clips: np.ndarray
    texts: np.ndarray
    image: Uplink
    text: Uplink
    sent: int | None

    @classmethod
    def build(cls, bank: Bank, image: Uplink, text: Uplink, sent: int | None = 1) -> UplinkTable:
        """Project every row once.

        Args:
            bank: Features.
            image: The projection of images.
            text: That of texts.
            sent: Frames that a device sends of a clip; None where it sends the mean of all.
        """
        clips = image(bank.means())
        anchors = clips[:, None] if sent is None else image(bank.anchors(sent))
        received = as_received(anchors.reshape(-1, anchors.shape[-1])).reshape(anchors.shape)
        return cls(received, clips, bank.texts.numpy(), image, text, sent)

    def of(self, bank: Bank) -> UplinkTable:
        """The same of another bank."""
        return self.build(bank, self.image, self.text, self.sent)

    def lifted(self, images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
        """Offsets of the trunks' features that move the leading entries of uplink features by what is given.

        Args:
            images: (..., k) float32, k at most as long as an uplink feature.
            texts: Likewise.

        Returns:
            (..., Di) and (..., Dt) float32.
        """
        image, text = (
            offsets @ torch.from_numpy(uplink.directions[: offsets.shape[-1]])
            for offsets, uplink in ((images, self.image), (texts, self.text))
        )
        return image, text

    def context(
        self, supports: Iterable[Sequence[ClipData]], truths: Sequence[np.ndarray], training: bool = False
    ) -> ContextInputs:
        """Contexts of B devices from their support sets: what is sent and a mean query of each clip."""
        supports = [list(support) for support in supports]
        longest = max(len(support) for support in supports)
        shape, sent = (len(supports), longest), self.anchors.shape[1]
        mask, asked = np.zeros(shape, bool), np.zeros(shape, bool)
        rows = np.zeros(shape, np.int64)
        means = np.zeros((*shape, self.texts.shape[1]), np.float32)
        for place, support in enumerate(supports):
            for index, clip in enumerate(support):
                mask[place, index], rows[place, index] = True, clip.row
                if len(clip.queries):
                    asked[place, index] = True
                    means[place, index] = self.texts[clip.queries].mean(0)
        queries = as_received(self.text(means.reshape(-1, means.shape[-1]))).reshape(*shape, -1)
        return ContextInputs(
            torch.tensor(self.anchors[rows]).flatten(1, 2),
            torch.tensor(mask.repeat(sent, 1)),
            torch.tensor(queries),
            torch.tensor(asked),
            torch.tensor(self.clips[rows.repeat(sent, 1)]) if training else None,
            torch.tensor(np.stack(truths)),
        )

    def pairs(self, clips: Sequence[ClipData]) -> tuple[Tensor, Tensor]:
        """What is sent of clips, and their means: twice (N, Ui), a row for each anchor."""
        rows = [clip.row for clip in clips]
        sent, means = torch.from_numpy(self.anchors[rows]), torch.from_numpy(self.clips[rows])
        return sent.flatten(0, 1), means.repeat_interleave(sent.shape[1], 0)

    def request(self, device: str, model: str, clips: Sequence[ClipData]) -> AdaptRequest:
        """What `device`, which runs the base of `model` (sha256), sends of these clips."""
        asked = [place for place, clip in enumerate(clips) if len(clip.queries)]
        means = [self.texts[clips[place].queries].mean(0) for place in asked]
        return AdaptRequest(
            device,
            model,
            0,
            self.anchors[[clip.row for clip in clips]].reshape(-1, self.anchors.shape[2]),
            self.text(np.array(means, np.float32).reshape(len(means), self.texts.shape[1])),
            np.array(asked, np.int64) * self.anchors.shape[1],
        )


def _said(text: str, device: Device | None) -> str:
    return device.question(text) if device else text


def _rights(item: Item, device: Device | None) -> list[str]:
    """All right answers of an item, the first one first, as the device gives them."""
    if item.answer is None:
        return []
    several = list(item.question.right) if item.question else []
    if several:  # the one that was given most often is what training goes by
        several.remove(item.answer)
    return [device.answer(answer) if device else answer for answer in [item.answer, *several]]


def _options(
    clip: Clip, item: Item, device: Device | None, distractors: Distractors, count: int
) -> list[str]:
    """What is offered, in the device's words; answers that are the same word in them are offered once."""
    if not count or item.question is None:
        return []
    offered = distractors.options(clip.id, item.question, count)
    return list(dict.fromkeys(device.answer(option) if device else option for option in offered))


def _number(answer: str, options: Sequence[str], answers: Mapping[str, int]) -> int:
    wanted = normalized(answer)
    if options:
        return next((n for n, option in enumerate(options) if normalized(option) == wanted), UNKNOWN)
    return answers.get(wanted, UNKNOWN)
