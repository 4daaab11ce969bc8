"""Views of clips by devices, and their conversion to rows of features."""

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
    """A clip with a device's cameras and words, before it is encoded.

    Args:
        clip: The clip.
        device: The device; None for an unchanged clip.
        task: The task, which selects the texts of a clip.
        distractors: Distractors of the collection, for multiple choice.
        most: Maximum number of items, and of hints, of a clip; None: no limit.
        scored: Whether to use the items for scoring instead of those for training.
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
        """List every text of the view once."""
        offered = [option for options in self.options for option in options]
        found = [text for _, text in self.items] + self.queries + offered + self.hints
        return list(dict.fromkeys(found))

    def clip_keys(self) -> list[ClipKey]:
        """List the keys of all clips and frames of the view."""
        return [self.key, *(key for key, _ in self.items)]

    def data(self, bank: Bank, answers: Mapping[str, int], options: int) -> ClipData:
        """Convert the view to rows of the bank.

        Args:
            bank: The bank.
            answers: Normalized answer -> its number.
            options: Number of columns for options; -1 after a question's last option.
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
"""The bank, the unchanged clips, and the devices."""


class Views:
    """Unchanged clips, and devices' clips as the devices see them, before they are encoded.

    Args:
        collection: The collection of the clips.
        clips: Ids of the unchanged clips.
        devices: The devices; their clips are seen by them.
        task: The task, which selects the texts of a clip.
        answers: Answer -> its number.
        categories: The categories that describe a true domain.
        items_a_clip: Maximum number of items, and of hints, of a device's clip, to encode fewer texts.
        scored: Whether devices' items are for scoring instead of for training.
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
        # Answers with equal normalized texts get the number of the first of them, which is the most frequent.
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
        """Yield the keys of all clips and frames; keys may repeat."""
        return (key for view in self._all() for key in view.clip_keys())

    def load(self, store: FeatureStore) -> Loaded:
        """Encode all clips and texts, and convert the views to rows."""
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
    """Return a device's true domain, float32: category shares, severity by kind of camera, and words."""
    shares = np.array([device.categories.get(category, 0.0) for category in categories], np.float32)
    cameras = sum((camera.describe() for camera in device.cameras), np.zeros(CAMERA_DIMS, np.float32))
    own = device.answers_in
    words = own.describe() if own else np.zeros(VOCABULARY_WORDS, np.float32)
    return np.concatenate([shares, cameras, words]).astype(np.float32)


@dataclass(frozen=True)
class UplinkTable:
    """Uplink features of every row of a bank, as the server receives them.

    Attributes:
        anchors: (R, A, Ui) float32, the sent features of a clip: its A anchor frames, or its mean.
        clips: (R, Ui) float32, the uplink features of the clip's mean.
        texts: (S, Dt) float32, the encoder's features, from which a clip's mean query is computed.
        image, text: The projections of images and texts.
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
        """Project every row of a bank.

        Args:
            bank: The bank.
            image: The projection of images.
            text: The projection of texts.
            sent: Number of frames that a device sends of a clip; None if it sends the mean of all frames.
        """
        clips = image(bank.means())
        anchors = clips[:, None] if sent is None else image(bank.anchors(sent))
        received = as_received(anchors.reshape(-1, anchors.shape[-1])).reshape(anchors.shape)
        return cls(received, clips, bank.texts.numpy(), image, text, sent)

    def of(self, bank: Bank) -> UplinkTable:
        """Build the table of another bank with the same projections."""
        return self.build(bank, self.image, self.text, self.sent)

    def lifted(self, images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
        """Convert offsets of the leading entries of uplink features to offsets of the encoders' features.

        Args:
            images: (..., k) float32 for images; k is at most the length of an uplink feature.
            texts: (..., k) float32 for texts.

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
        """Make the hypernetwork's inputs for B devices: sent features and a mean query of each clip."""
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
        """Return the sent features and the means of clips: both (N, Ui), with a row for each anchor."""
        rows = [clip.row for clip in clips]
        sent, means = torch.from_numpy(self.anchors[rows]), torch.from_numpy(self.clips[rows])
        return sent.flatten(0, 1), means.repeat_interleave(sent.shape[1], 0)

    def request(self, device: str, model: str, clips: Sequence[ClipData]) -> AdaptRequest:
        """Make the request of `device`, which runs the base of `model` (sha256), with these support clips."""
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
    """Return all right answers of an item in the device's words; the answer for training comes first."""
    if item.answer is None:
        return []
    several = list(item.question.right) if item.question else []
    if several:  # training uses the most frequent answer
        several.remove(item.answer)
    return [device.answer(answer) if device else answer for answer in [item.answer, *several]]


def _options(
    clip: Clip, item: Item, device: Device | None, distractors: Distractors, count: int
) -> list[str]:
    """Return the options in the device's words; options with the same word are returned once."""
    if not count or item.question is None:
        return []
    offered = distractors.options(clip.id, item.question, count)
    return list(dict.fromkeys(device.answer(option) if device else option for option in offered))


def _number(answer: str, options: Sequence[str], answers: Mapping[str, int]) -> int:
    wanted = normalized(answer)
    if options:
        return next((n for n, option in enumerate(options) if normalized(option) == wanted), UNKNOWN)
    return answers.get(wanted, UNKNOWN)
