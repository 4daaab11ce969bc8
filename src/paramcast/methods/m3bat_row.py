"""`m3bat`: train the base model further, so that its features do not tell the device from training devices.

M3BAT (arXiv 2404.17391, `methods.m3bat`) with the base model as its network: a branch for images, a branch
for texts, and the joined features as the shared representation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paramcast.methods.background import Background
from paramcast.methods.base import Method, Predictor, Settings, Support, Traffic
from paramcast.methods.m3bat.network import Discriminator, reverse_gradient
from paramcast.methods.m3bat.shift import cohens_d
from paramcast.methods.m3bat.training import Plan, train
from paramcast.methods.meter import Work
from paramcast.methods.modules import HEADS, predictor
from paramcast.video.models.answer import Fusion
from paramcast.video.models.parts import masked_mean
from paramcast.video.models.retrieval import RetrievalModel
from paramcast.video.tasks import Task
from paramcast.video.training.bank import Bank

STEPS, BATCH = 40, 32
"""Steps for each device, about a second of one core; number of source and of target items in a step."""

_HIDDEN = 64
_ANALYSED = 1000  # at most this number of source items enters the shift analysis
_FLOAT16, _FLOAT32 = 2, 4


class M3bat(Method):
    """L = L_task + sum_b w_b lambda(p) L_dom,b, starting from the base model.

    The source is the items of the training devices, with their labels. The target is the device's questions
    or captions, without labels. The training runs on the cloud, which has the source: features go up, the
    trained layers come down.
    """

    on_cloud = True
    identity: ClassVar[Settings | None] = {"rate": 0.0, "strength": 1.0}

    def grid(self, task: str) -> Sequence[Settings]:
        """Return the choices of the learning rate and of the factor of the domain losses."""
        return [{"rate": rate, "strength": factor} for rate in (1e-4, 3e-4, 1e-3) for factor in (0.1, 1.0)]

    def prepare(self, background: Background) -> None:
        """Collect the source, and compute its features for the shift analysis."""
        super().prepare(background)
        task, samples = background.model.task, background.training
        items = np.concatenate([clip.items for device in samples.devices for clip in device.clips])
        self._source = items[items[:, 2] >= 0] if task.has_answers else items
        self._usual = modalities(samples.bank, self._source[:: -(-len(self._source) // _ANALYSED)])

    def adapt(self, support: Support, settings: Settings, seed: int) -> Predictor:
        """Train a copy of the base model."""
        task, module, bank = self.background.model.task, self.background.module(), support.samples.bank
        rng, target = np.random.default_rng(seed), _target(support)
        for parameter in _trained(task, module):
            parameter.requires_grad_()
        plan = Plan(
            steps=STEPS,
            batch=BATCH,
            rate=float(settings["rate"]),
            decay=0.0,
            strength=float(settings["strength"]),
            weights=branch_weights(self._usual, modalities(bank, target), shared=task.has_answers),
            alignment="adversarial",
            staged=task.has_answers,
            progress=False,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed % 2**63)
            network = Branches(task, module, (self.background.training.bank, bank), rng)
            source, labels = network.rows(0, self._source), torch.from_numpy(self._source[:, 2])
            train(network, source, labels, network.rows(1, target), _loss_of(task), plan, rng)  # type: ignore[arg-type]
        return predictor(task, module.requires_grad_(False), bank)

    def traffic(self, support: Support, settings: Settings) -> Traffic:
        """Return the bytes in float16: all features of support clips and texts up, trained layers down."""
        bank, asked = support.samples.bank, support.asked
        frames = int(bank.mask[np.unique(asked.shown)].sum())
        texts = len(np.unique(np.concatenate([asked.texts, asked.options.ravel()])))
        up = _FLOAT16 * (frames * bank.frames.shape[-1] + texts * bank.texts.shape[-1])
        return Traffic(up, _FLOAT16 * self._size(), ("features",))

    def device_work(self, support: Support, settings: Settings) -> Work:
        """Return the memory: the bytes sent and received, and the trained layers in float32. No products."""
        sent = self.traffic(support, settings)
        return Work(0, sent.up + sent.down + _FLOAT32 * self._size())

    def _size(self) -> int:
        return sum(p.numel() for p in _trained(self.background.model.task, self.background.frozen))


class Branches(nn.Module):
    """The base model as a network of M3BAT, with a domain discriminator for each of its representations.

    In retrieval, embeddings are compared and not joined. So there is no shared representation, only two
    branches.

    Args:
        task: Task of the base model.
        module: The base model, trained in place.
        banks: Banks of the source and of the target.
        rng: Draws the frames that a step sees.
    """

    def __init__(
        self, task: Task, module: nn.Module, banks: tuple[Bank, Bank], rng: np.random.Generator
    ) -> None:
        super().__init__()
        self.task, self.base, self._banks, self._rng = task, module, banks, rng
        if task.has_answers:
            fusion = cast(Fusion, module.fusion)
            widths = [fusion.width, fusion.image.out_features, fusion.text.out_features]
        else:
            model = cast(RetrievalModel, module)
            widths = 2 * [model.image.out_features + model.shared_dim]
        self.discriminators = nn.ModuleList(Discriminator(width, _HIDDEN) for width in widths)

    @staticmethod
    def rows(bank: int, items: np.ndarray) -> Tensor:
        """Convert items (N, 3 + options) of a bank (0 is the source's) to rows (N, 4 + options) int64."""
        return torch.from_numpy(np.insert(items, 0, bank, axis=1))

    def encode(self, x: Tensor, opened: bool = True) -> list[Tensor]:
        """Encode items x (B, 4 + options): the number of the bank, then as in `ClipData.items`.

        Returns:
            For questions, the fused features (B, N, W) of N texts each and, if `opened`, those of the frames
            (B, T, V) and of the texts (B, N, V). For retrieval, embeddings of images and of texts, (B, E)
            each.
        """
        bank, items = self._banks[int(x[0, 0])], x[:, 1:].numpy()
        frames, mask = bank.some_frames(items[:, 0], self._rng)
        texts = bank.some_texts(items[:, 1])
        if not self.task.has_answers:
            return list(self.base(frames, mask, texts))
        texts = texts[:, None]
        if self.task.options:
            offered = bank.some_texts(items[:, 3:])
            texts = torch.cat([texts.expand(offered.shape), offered], -1)
        fusion = cast(Fusion, self.base.fusion)
        branches: list[Tensor] = []
        hooks = [
            layer.register_forward_hook(lambda layer, given, made: branches.append(F.gelu(made)))
            for layer in (fusion.image_out, fusion.text_out)
        ]
        try:
            fused: Tensor = fusion(frames, mask, texts)
        finally:
            for hook in hooks:
                hook.remove()
        return [fused, *(branches if opened else ())]

    def predict(self, encoded: Sequence[Tensor]) -> Tensor:
        """Compute logits of the answers (B, A), or of every text against every image of the batch (B, B)."""
        if self.task.has_answers:
            head = self.base.get_submodule(HEADS[self.task.name][0])
            logits: Tensor = head(encoded[0]).flatten(1)
            return logits
        images, texts = encoded
        return RetrievalModel.temperature * texts @ images.T

    def domains(self, encoded: Sequence[Tensor]) -> list[Tensor]:
        """Compute logits (B,) of being target for each representation, behind a gradient reversal."""
        means = [z.mean(1) if z.dim() == 3 else z for z in encoded]
        pairs = zip(self.discriminators, means, strict=False)  # closed branches are absent
        return [judge(reverse_gradient(z))[:, 0] for judge, z in pairs]


def modalities(bank: Bank, items: np.ndarray) -> dict[str, np.ndarray]:
    """Compute trunk features of items (N, 3 + options): image (N, Di), the mean over frames; text (N, Dt)."""
    rows, back = np.unique(items[:, 0], return_inverse=True)
    images = masked_mean(bank.frames[rows], bank.mask[rows]).numpy()
    return {"image": images[back], "text": bank.texts[items[:, 1]].numpy()}


def branch_weights(
    source: Mapping[str, np.ndarray], target: Mapping[str, np.ndarray], shared: bool
) -> tuple[float, ...]:
    """Compute w_b: mean |d| (Cohen's) of a modality's features, scaled so that the mean of all w_b is 1.

    Args:
        source: Modality -> features (N, D).
        target: The same modalities, (M, D).
        shared: Whether a shared representation comes first; its mean is the mean over all features.
    """
    found = [np.abs(cohens_d(source[name], target[name])) for name in source]
    means = [each.mean() for each in ([np.concatenate(found)] if shared else []) + found]
    return tuple(float(mean / max(np.mean(means), 1e-12)) for mean in means)


def _trained(task: Task, module: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that are trained: all, or in retrieval the parameters of the heads alone."""
    parts = [module] if task.has_answers else [module.get_submodule(name) for name in HEADS[task.name]]
    return [parameter for part in parts for parameter in part.parameters()]


def _target(support: Support) -> np.ndarray:
    """Make items (N, 3 + options) without answers; in retrieval, clips and captions are unpaired."""
    asked = support.asked
    count = max(len(asked.shown), len(asked.texts))
    shown, texts = np.resize(asked.shown, count), np.resize(asked.texts, count)
    return np.column_stack(
        [shown, texts, np.full(count, -1), np.resize(asked.options, (count, asked.options.shape[1]))]
    )


def _loss_of(task: Task) -> Callable[[Tensor, Tensor], Tensor]:
    """Return L_task: cross-entropy of the answers, or InfoNCE of a batch, where text i belongs to image i."""
    if task.has_answers:
        return F.cross_entropy

    def info_nce(scores: Tensor, labels: Tensor) -> Tensor:
        places = torch.arange(len(scores))
        return (F.cross_entropy(scores, places) + F.cross_entropy(scores.T, places)) / 2

    return info_nce
