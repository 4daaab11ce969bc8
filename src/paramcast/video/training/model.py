"""A trained model on disk: the base, its hypernetworks, and all data to run, serve and evaluate them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file
from torch import nn

from paramcast.errors import InputError
from paramcast.files import remove_halves, replacing, write_json
from paramcast.hypernet import HypernetworkConfig
from paramcast.hypernet.forms import FormHypernetwork
from paramcast.hypernet.hypernetwork import Evidence
from paramcast.training.uplink import Uplink
from paramcast.video.data.collection import Collection
from paramcast.video.data.features import FeatureStore
from paramcast.video.encoders import image_encoder, text_encoder
from paramcast.video.tasks import Task, make_task
from paramcast.video.training.bank import Bank
from paramcast.video.training.views import UplinkTable

if TYPE_CHECKING:
    from paramcast.training.report import Report

FORMAT = 1
"""Version of the model folder."""

_YOUNGER = re.compile(r"gate\.|context\.reasoner\.(gain|level|temperature)$")
"""Names of tensors that older saved hypernetworks lack. They keep the values of a new hypernetwork, which
change nothing."""

CONDITIONS = ("support", "truth", "constant")
"""Inputs of a hypernetwork: the support set, the true domain (the oracle), a constant (the control)."""


class ModelError(InputError):
    """A folder holds no model that this version can read."""


@dataclass(frozen=True)
class ModelConfig:
    """Configuration and training data of a model.

    Attributes:
        task: 'qa', 'choice' or 'retrieval'.
        form: Form of the updates.
        image_encoder, text_encoder: Names of the encoders.
        image_dim, text_dim: Lengths of their features.
        frames, sampling: How frames are taken from a clip.
        answers: Known answers; the position is an answer's number. Empty for tasks without answers.
        categories: The categories that the oracle is given.
        seed: Seed of the training run.
        clips: Split -> ids of its clips. Training may have used the clips of 'train' and 'validation', never
            the clips of 'test'.
        collection: Name of the training collection.
        truth_dim: Length of the vector of a true domain.
        scores: Stage -> score on validation devices.
        shared_dim: See `encoders.shared_dim`.
        form_options: Options of the form (`rank`, `count`).
        evidence, anchors: See `TrainingOptions`.
        centre_dims: See `FormHypernetwork`; 16 for older models, whose configuration lacks it.
    """

    task: str
    form: str
    image_encoder: str
    text_encoder: str
    image_dim: int
    text_dim: int
    frames: int
    sampling: str
    answers: tuple[str, ...]
    categories: tuple[str, ...]
    seed: int
    clips: Mapping[str, Sequence[str]]
    collection: str
    truth_dim: int
    scores: Mapping[str, float] = field(default_factory=dict)
    shared_dim: int = 0
    form_options: Mapping[str, int] = field(default_factory=dict)
    evidence: Evidence = "reasoner"
    anchors: int = 1
    centre_dims: int = 16


class TrainedModel:
    """A base model, its hypernetworks by condition (`adaptors`), and its uplinks."""

    def __init__(self, config: ModelConfig, image_uplink: Uplink, text_uplink: Uplink) -> None:
        self.config = config
        self.task: Task = make_task(config.task)
        self.base: nn.Module = self.task.build(
            config.image_dim, config.text_dim, config.shared_dim, config.answers
        ).eval()
        self.image_uplink, self.text_uplink = image_uplink, text_uplink
        self.adaptors = {condition: self._adaptor(condition) for condition in CONDITIONS}

    @property
    def adaptor(self) -> FormHypernetwork:
        """The hypernetwork that serves devices."""
        return self.adaptors["support"]

    @property
    def answer_numbers(self) -> dict[str, int]:
        """Answer -> its number."""
        return {answer: number for number, answer in enumerate(self.config.answers)}

    def sha256(self) -> str:
        """Compute a hash (hex) of the base model, the uplinks, and the adapter's tensors that devices hold.

        An example of such tensors is the basis of `codes`.
        """
        digest = hashlib.sha256()
        about = [self.config.task, self.config.form, self.config.image_encoder, self.config.text_encoder]
        digest.update(json.dumps([*about, self.config.frames, self.config.answers]).encode())
        tensors = {**self.base.state_dict(), **self.adaptor.adapter.state_dict()}
        if self.adaptor.centre:
            tensors |= {f"centre.{name}": basis for name, basis in self.adaptor.centre.state_dict().items()}
        for name in sorted(tensors):
            digest.update(name.encode() + tensors[name].detach().contiguous().numpy().tobytes())
        for uplink in (self.image_uplink, self.text_uplink):
            digest.update(uplink.mean.tobytes() + uplink.matrix.tobytes())
        return digest.hexdigest()

    def store(self, collection: Collection) -> FeatureStore:
        """Make a feature store with this model's encoders."""
        return feature_store(collection, self.config)

    def table(self, bank: Bank) -> UplinkTable:
        """Compute the uplink features that this model's devices send of every row of a bank."""
        sent = None if self.config.evidence == "clip" else self.config.anchors
        return UplinkTable.build(bank, self.image_uplink, self.text_uplink, sent)

    def save(self, folder: Path | str) -> None:
        """Write the folder; `config.json` is written last, so a folder without it is incomplete."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        remove_halves(folder)
        for name, module in self._modules().items():
            with replacing(folder / f"{name}.safetensors") as path:
                save_file({k: v.detach().clone().contiguous() for k, v in module.state_dict().items()}, path)
        with replacing(folder / "uplink.safetensors") as path:
            save_arrays(uplink_arrays(self.image_uplink, self.text_uplink), path)
        write_json(folder / "config.json", {"format": FORMAT, "sha256": self.sha256(), **asdict(self.config)})

    @classmethod
    def load(cls, folder: Path | str) -> TrainedModel:
        """Read a model from the folder that `save` wrote.

        Raises:
            ModelError: The folder holds no model, a model of another format, or files that were changed.
        """
        folder = Path(folder)
        try:
            stored = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            if stored.pop("format") != FORMAT:
                raise ModelError(f"{folder}: this version of paramcast reads model format {FORMAT} only")
            digest = stored.pop("sha256")
            for key in ("answers", "categories"):
                stored[key] = tuple(stored[key])
            arrays = load_arrays(folder / "uplink.safetensors")
            uplinks = [Uplink(arrays[f"{of}.mean"], arrays[f"{of}.matrix"]) for of in ("image", "text")]
            model = cls(ModelConfig(**stored), *uplinks)
            for name, module in model._modules().items():
                new = {key: value for key, value in module.state_dict().items() if _YOUNGER.match(key)}
                module.load_state_dict(new | load_file(folder / f"{name}.safetensors"))
                module.eval()
        except FileNotFoundError as error:
            missing = Path(error.filename or folder).name
            raise ModelError(
                f"{folder} holds no complete model ({missing} is missing); train one: paramcast "
                f"train --out {folder}"
            ) from error
        except (ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise ModelError(f"{folder} is not a model that can be read: {error}") from error
        if model.sha256() != digest:
            raise ModelError(
                f"{folder}: the base model's files have changed since they were written; copy it again"
            )
        return model

    def evaluate(
        self,
        data: Path | str,
        support: int | Sequence[int] = 8,
        *,
        shift: str = "category",
        devices: int = 100,
        seed: int = 0,
    ) -> Report:
        """Evaluate on simulated devices, with all controls, on clips that training never used.

        Args:
            data: The folder of a collection.
            support: Number of clips that a device adapts with; several numbers give one row each.
            shift: Shifts between devices; see `paramcast evaluate --help`.
            devices: Number of devices.
            seed: Seed of the devices.

        Raises:
            InputError: The collection has too few clips for the task, or the shift is unknown.
        """
        from paramcast.training.report import Report
        from paramcast.video.training.evaluate import evaluate

        sizes = (support,) if isinstance(support, int) else tuple(support)
        found = evaluate(
            self, Collection.open(data), shift=shift, devices=devices, support_sizes=sizes, seed=seed
        ).results
        return Report(found, (None,) * len(found), {}, seed, self.config.task, shift)

    def export(self, out: Path | str, key: Path | str | None = None) -> Path:
        """Write the artifact: `out/device` for devices, `out/server` for the server.

        Args:
            out: The artifact's folder; an older artifact there is replaced.
            key: File of the signing key, made if it does not exist; None: devices trust the first server.

        Raises:
            InputError: The encoders cannot run on a device, or `out` is no artifact.
        """
        from paramcast.protocol import load_or_make_key, public_key_hex
        from paramcast.video.training.artifact import export_artifact

        return export_artifact(
            self, out, None if key is None else public_key_hex(load_or_make_key(Path(key)))
        )

    def _adaptor(self, condition: Any) -> FormHypernetwork:
        config = HypernetworkConfig(
            condition,
            self.image_uplink.matrix.shape[1],
            self.text_uplink.matrix.shape[1],
            self.config.truth_dim,
            evidence=self.config.evidence,
        )
        return FormHypernetwork(
            config,
            self.config.form,
            self.base,
            self.task.targets,
            options=self.config.form_options,
            centred=tuple(self.task.centred(self.base)),
            centre_dims=self.config.centre_dims,
        ).eval()

    def _modules(self) -> dict[str, nn.Module]:
        return {"base": self.base} | {f"adaptor-{name}": adaptor for name, adaptor in self.adaptors.items()}


def uplink_arrays(image: Uplink, text: Uplink) -> dict[str, np.ndarray]:
    """Return the tensors of `uplink.safetensors`."""
    return {
        f"{name}.{part}": np.ascontiguousarray(getattr(uplink, part))
        for name, uplink in (("image", image), ("text", text))
        for part in ("mean", "matrix")
    }


class TrunkSettings(Protocol):
    """Names of the encoders and choice of frames: the common part of training options and configurations."""

    @property
    def image_encoder(self) -> str:
        """Name of the image encoder."""

    @property
    def text_encoder(self) -> str:
        """Name of the text encoder."""

    @property
    def frames(self) -> int:
        """Number of frames of a clip."""

    @property
    def sampling(self) -> str:
        """Method that chooses the frames."""


def check_trunks(settings: TrunkSettings) -> None:
    """Check that encoders with these names exist. Raises InputError, or MissingExtraError."""
    image_encoder(settings.image_encoder)
    text_encoder(settings.text_encoder)


def feature_store(collection: Collection, settings: TrunkSettings) -> FeatureStore:
    """Make the feature store of a collection with the encoders and frames of `settings`."""
    image, text = image_encoder(settings.image_encoder), text_encoder(settings.text_encoder)
    return FeatureStore(collection, image, text, settings.frames, settings.sampling)
