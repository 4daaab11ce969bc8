"""Text-video retrieval: find the clip, or the frame, that a text is about."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paramcast.adapters import AdaptedModule
from paramcast.training.controls import Metric
from paramcast.video.data.collection import Clip
from paramcast.video.models.retrieval import RetrievalModel
from paramcast.video.ranking import expected_recall
from paramcast.video.tasks.base import Asked, Item, Task
from paramcast.video.training.arrays import ClipData, DeviceData
from paramcast.video.training.bank import Bank

RANKS = (1, 5, 10)
_QUERY_ITEMS, _OTHERS = 16, 64  # items of each device in an episode; candidates that all devices share
_HINTS = 0.6  # share of clips for which base training uses a hint as the text


class Retrieval(Task):
    """Retrieval, scored by R@1, R@5 and R@10; sentences of frames are scored by `match3` too.

    Training searches for a clip by its first caption, and uses the other captions as hints. Evaluation
    searches for it by each caption, as the field's multi-caption protocol does (20 captions per clip in
    MSR-VTT, 40 in MSVD). If a clip has a sentence for each frame, the search for a frame uses its sentence.

    A text is compared with the query clips of its device (gallery 'device'), and with these and all other
    clips of the split (gallery 'collection'). A device with cameras has only the first gallery, because its
    cameras show no clips of other devices.
    """

    name = "retrieval"
    searches = True
    needs = "`captions` or `frame_captions`"
    targets = RetrievalModel.targets
    offset_share = 0.5
    base_epochs = 15

    def items(self, clip: Clip) -> list[Item]:
        """Return a sentence for each frame where the clip has them, else the first caption."""
        if clip.frame_captions:
            return [Item(frame, text) for frame, text in enumerate(clip.frame_captions)]
        return [Item(None, text) for text in clip.captions[:1]]

    def scored_items(self, clip: Clip) -> list[Item]:
        """Return all captions of a clip, or a sentence for each frame where the clip has them."""
        return self.items(clip) if clip.frame_captions else [Item(None, text) for text in clip.captions]

    def hints(self, clip: Clip) -> list[str]:
        """Return the other captions and the questions: they also describe the clip."""
        return [*clip.captions[1:], *(qa.question for qa in clip.qa)]

    def build(self, image_dim: int, text_dim: int, shared_dim: int, answers: Sequence[str]) -> nn.Module:
        """Build a `RetrievalModel`."""
        return RetrievalModel(image_dim, text_dim, shared_dim)

    def centred(self, model: nn.Module) -> dict[str, Callable[[Tensor], Tensor]]:
        """Return the head of the texts, and the layer on the dimensions that texts share with images."""
        assert isinstance(model, RetrievalModel)
        head, norm, shared = model.text, model.text_norm, model.shared_dim
        found: dict[str, Callable[[Tensor], Tensor]] = {
            "text": lambda offsets: -(offsets * norm.scale) @ head.weight.T
        }
        return found | ({"text_shared": lambda offsets: -offsets[:, :shared]} if shared else {})

    def base_loss(
        self, model: nn.Module, bank: Bank, clips: Sequence[ClipData], rng: np.random.Generator, batch: int
    ) -> Tensor:
        """Compute InfoNCE over a batch of clips, each with a caption or a hint."""
        drawn = rng.choice(len(clips), min(batch, len(clips)), replace=False)
        pairs = np.array([_pair(clips[i], rng) for i in drawn])
        videos, texts = model(*bank.some_frames(pairs[:, 0], rng), bank.texts[pairs[:, 1]])
        return _info_nce(videos, texts)

    def align(
        self, model: nn.Module, final: dict[str, Tensor], bank: Bank, clips: Sequence[ClipData]
    ) -> None:
        """Rotate the heads' outputs onto the final model's outputs (orthogonal Procrustes).

        Cosines do not change.
        """
        assert isinstance(model, RetrievalModel)
        own = {key: value.clone() for key, value in model.state_dict().items()}
        mine = _learned(model, bank, clips)
        model.load_state_dict(final)
        left, _, right = torch.linalg.svd(mine.T @ _learned(model, bank, clips))
        rotation = (left @ right).T
        for head in ("image", "text"):
            own[f"{head}.weight"] = rotation @ own[f"{head}.weight"]
            own[f"{head}.bias"] = rotation @ own[f"{head}.bias"]
        model.load_state_dict(own)

    def episode_loss(
        self,
        adapted: AdaptedModule,
        values: dict[str, Tensor] | None,
        bank: Bank,
        queries: Sequence[Sequence[ClipData]],
        has_cameras: Sequence[bool],
        others: Sequence[ClipData],
        rng: np.random.Generator,
    ) -> Tensor:
        """Compute InfoNCE for each device, against its own clips and against a sample of all clips.

        A device with cameras is trained against its own clips only. The other clips are not seen through its
        cameras, so that the effect of the cameras alone would distinguish the device's clips from them.
        """
        own = np.stack([_draw_items(clips, rng) for clips in queries])  # (B, Q, 2)
        shared = np.array([others[i].row for i in rng.integers(len(others), size=_OTHERS)])
        rows = np.concatenate([own[..., 0], np.tile(shared, (len(own), 1))], 1)
        with adapted.use(values) as model:
            videos, texts = model(*bank.some_frames(rows, rng), bank.some_texts(own[..., 1]))
        counts = [_QUERY_ITEMS if alone else _QUERY_ITEMS + _OTHERS for alone in has_cameras]
        return torch.stack(
            [_info_nce(v[:n], t) for v, t, n in zip(videos, texts, counts, strict=True)]
        ).mean()

    def asked(self, device: DeviceData, gallery: Sequence[ClipData]) -> Asked:
        """Return the texts of the device's query clips, and the candidates.

        The clips or frames of the texts come first, in the order of the query clips. All other clips follow.
        A device with cameras has only candidates of its query clips, see `episode_loss`.
        """
        own = np.concatenate([clip.items for clip in device.query])
        shown = [_candidates(clip) for clip in device.query]
        if not device.device.cameras:
            seen = {*device.device.support, *device.device.query}
            shown += [_candidates(clip) for clip in device.clips[: device.support]]
            shown += [_candidates(clip) for clip in gallery if clip.clip_id not in seen]
        return Asked(np.concatenate(shown), own[:, 1], own[:, 3:])

    def outputs(self, model: nn.Module, bank: Bank, asked: Asked) -> Tensor:
        """Compute the cosines (N, G) of the texts and the candidates."""
        videos, texts = embedded(model, bank, asked)
        return texts @ videos.T

    def figures(self, outputs: Tensor, device: DeviceData) -> dict[Metric, float]:
        """Compute the recall of the right clip or frame in the device's gallery and in the collection's.

        The device's candidates are the first columns of `outputs`.
        """
        scores, right = outputs.numpy(), right_candidates(device)
        own = sum(len(_candidates(clip)) for clip in device.query)
        frames = any(_by_frame(clip) for clip in device.query)
        galleries = {"device": scores[:, :own]}
        if not device.device.cameras:
            galleries["collection"] = scores
        figures = {
            Metric(f"r@{k}", name): value
            for name, among in galleries.items()
            for k, value in expected_recall(among, right, RANKS).items()
        }
        # The main gallery comes first: all clips for captions, the query set's frames for frames' sentences.
        order = sorted(figures, key=lambda metric: (metric.gallery == "device") != frames)
        ordered = {metric: figures[metric] for metric in order}
        if frames:
            ordered = {Metric("match3"): _match(scores, device), **ordered}
        return ordered


def right_candidates(device: DeviceData) -> np.ndarray:
    """Return the index of the right candidate for each text of the query clips: (N,) int."""
    places, first = [], 0
    for clip in device.query:
        count = len(_candidates(clip))
        places.append(first + (np.arange(count) if _by_frame(clip) else np.zeros(len(clip.items), np.int64)))
        first += count
    return np.concatenate(places).astype(np.int64)


def _by_frame(clip: ClipData) -> bool:
    """Check whether the clip has a sentence for each frame."""
    return bool(len(clip.items)) and clip.items[0, 0] != clip.row


def _candidates(clip: ClipData) -> np.ndarray:
    """Return the rows of a clip's candidates: its frames where they have sentences, else the whole clip."""
    return clip.items[:, 0] if _by_frame(clip) else clip.items[:1, 0]


def embedded(model: nn.Module, bank: Bank, asked: Asked) -> tuple[Tensor, Tensor]:
    """Compute the embeddings of the candidates (G, E) and of the texts (N, E), L2-normalized."""
    assert isinstance(model, RetrievalModel)
    shown = model.embed_clips(bank.frames[asked.shown][None], bank.mask[asked.shown][None])[0]
    return shown, model.embed_texts(bank.texts[asked.texts][None])[0]


def _learned(model: RetrievalModel, bank: Bank, clips: Sequence[ClipData]) -> Tensor:
    """Compute the heads' part of the embeddings of N clips, then of their texts: (2 N, L)."""
    pairs = np.array([clip.items[0, :2] for clip in clips])
    with torch.no_grad():
        videos, texts = model(bank.frames[pairs[:, 0]], bank.mask[pairs[:, 0]], bank.texts[pairs[:, 1]])
    return torch.cat([videos, texts])[:, : model.image.out_features]


def _pair(clip: ClipData, rng: np.random.Generator) -> tuple[int, int]:
    if len(clip.hints) and rng.random() < _HINTS:
        return clip.row, clip.hints[rng.integers(len(clip.hints))]
    row, text, _ = clip.items[rng.integers(len(clip.items))]
    return row, text


def _draw_items(clips: Sequence[ClipData], rng: np.random.Generator) -> np.ndarray:
    """Draw one item for each of Q clips: (Q, 2) rows shown and texts; clips repeat where there are fewer."""
    chosen = np.resize(rng.permutation(len(clips))[:_QUERY_ITEMS], _QUERY_ITEMS).tolist()
    return np.stack([clips[i].items[rng.integers(len(clips[i].items)), :2] for i in chosen])


def _info_nce(videos: Tensor, texts: Tensor) -> Tensor:
    """Compute the symmetric InfoNCE of texts (Q, E) and videos (G, E), G >= Q; text i belongs to video i."""
    scores = texts @ videos.T * RetrievalModel.temperature
    targets = torch.arange(len(texts))
    return (F.cross_entropy(scores, targets) + F.cross_entropy(scores[:, : len(texts)].T, targets)) / 2


def _match(scores: np.ndarray, device: DeviceData) -> float:
    """Compute the share of sentences, in percent, that rank their frame first among their clip's frames."""
    found, first = [], 0
    for clip in device.query:
        count = len(clip.items)
        block = scores[first : first + count, first : first + count]
        found += [expected_recall(block, np.arange(count), (1,))[1]] * count
        first += count
    return float(np.mean(found))
