"""A user's module with its adaptors: what is saved, served and run on devices."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save, save_file
from torch import Tensor, nn

from paramcast.errors import InputError
from paramcast.files import replacing, write_json
from paramcast.hypernet import ContextInputs, HypernetworkConfig
from paramcast.hypernet.forms import FormHypernetwork
from paramcast.protocol import AdaptRequest
from paramcast.training.own.devices import sent_and_whole
from paramcast.training.uplink import Uplink, as_received
from paramcast.video.training.arrays import padded
from paramcast.video.training.model import CONDITIONS, ModelError

FORMAT = 1
"""Version of the folder."""

_NO_QUERIES = 1  # columns of a request's queries, of which there are no rows


@dataclass(frozen=True)
class OwnConfig:
    """What the adaptors are built from.

    Attributes:
        task: What the user calls what the model does.
        form: Of the generated parameters.
        options: Of the form (`rank`, `count`).
        targets: Patterns of the target modules; see `select_targets`.
        uplink_dim: Numbers that are sent of an example.
        truth_dim: Length of a true domain's description; 0 where there is none, and then no oracle.
    """

    task: str
    form: str
    targets: tuple[str, ...]
    uplink_dim: int
    truth_dim: int
    options: dict[str, int] = field(default_factory=dict)


class OwnModel:
    """A base module, its adaptors by condition, and its uplink.

    Attributes:
        config: What it is built from.
        module: The base: the user's own, shared, in evaluation mode.
        uplink: From an example's features to what is sent of them.
        adaptors: 'support' serves; 'constant' and, where the truth is known, 'truth' are its controls.
    """

    def __init__(self, config: OwnConfig, module: nn.Module, uplink: Uplink) -> None:
        self.config, self.module, self.uplink = config, module.eval(), uplink
        self.adaptors = {
            condition: FormHypernetwork(
                HypernetworkConfig(
                    condition,  # type: ignore[arg-type]
                    config.uplink_dim,
                    _NO_QUERIES,
                    config.truth_dim,
                ),
                config.form,
                module,
                config.targets,
                options=config.options,
            ).eval()
            for condition in CONDITIONS
            if config.truth_dim or condition != "truth"
        }

    @property
    def adaptor(self) -> FormHypernetwork:
        """The adaptor that serves devices."""
        return self.adaptors["support"]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Package tensors and their shapes: what `open_package` shall expect."""
        return self.adaptor.adapted.adapter.shapes

    def inputs(
        self,
        contexts: Sequence[np.ndarray],
        truths: Sequence[np.ndarray | None],
        training: bool = False,
    ) -> ContextInputs:
        """What the cloud knows of B devices.

        Args:
            contexts: Of each device's support set: (K, F) or (K, T, F), each with a K of its own.
            truths: (R,) of each, or None where it is not known.
            training: Whether the unsent parts are to be had too.
        """
        sent, whole = zip(*(sent_and_whole(context) for context in contexts), strict=True)
        anchors, mask = padded([as_received(self.uplink(rows)) for rows in sent])
        known = [truth for truth in truths if truth is not None]
        return ContextInputs(
            torch.from_numpy(anchors),
            torch.from_numpy(mask),
            torch.zeros(len(contexts), 0, _NO_QUERIES),
            torch.zeros(len(contexts), 0, dtype=torch.bool),
            torch.from_numpy(padded([self.uplink(rows) for rows in whole])[0]) if training else None,
            torch.from_numpy(np.stack(known).astype(np.float32)) if known else None,
        )

    def request(self, device: str, context: np.ndarray, sequence: int = 0) -> AdaptRequest:
        """What a device sends; its `encode()` is the bytes.

        Args:
            device: Its id.
            context: (K, F) or (K, T, F), the features of the K examples that it has seen.
            sequence: Of the package that it runs, 0 if it runs the base model.
        """
        anchors = self.uplink(sent_and_whole(context)[0])
        no_queries = np.empty((0, _NO_QUERIES), np.float32)
        return AdaptRequest(device, self.sha256(), sequence, anchors, no_queries, np.empty(0, np.int64))

    def use(self, tensors: Mapping[str, np.ndarray]) -> AbstractContextManager[nn.Module]:
        """Give the module under a package's tensors for as long as the context lasts."""
        values = {name: torch.from_numpy(np.asarray(value)) for name, value in tensors.items()}
        return self.adaptor.adapted.use(values)

    def sha256(self) -> str:
        """Hex digest of the base module, of what devices hold of the form, and of the uplink."""
        digest = hashlib.sha256(json.dumps(asdict(self.config)).encode())
        tensors = {f"base.{name}": value for name, value in self.module.state_dict().items()}
        tensors |= {f"edit.{name}": value for name, value in self.adaptor.adapter.state_dict().items()}
        digest.update(save(_owned(tensors)))
        digest.update(self.uplink.mean.tobytes() + self.uplink.matrix.tobytes())
        return digest.hexdigest()

    def save(self, folder: Path | str) -> None:
        """Write the folder; `config.json` comes last, so that a folder without it is not a model yet."""
        folder = Path(folder)
        for name, module in self._modules().items():
            with replacing(folder / f"{name}.safetensors") as path:
                save_file(_owned(module.state_dict()), path)
        with replacing(folder / "uplink.safetensors") as path:
            save_arrays({"mean": self.uplink.mean, "matrix": self.uplink.matrix}, path)
        write_json(folder / "config.json", {"format": FORMAT, "sha256": self.sha256(), **asdict(self.config)})

    @classmethod
    def load(cls, folder: Path | str, module: nn.Module) -> OwnModel:
        """Read what `save` wrote, into a module built as the saved one was; its weights are replaced.

        Raises:
            ModelError: No model, of another module, or changed since it was written.
        """
        folder = Path(folder)
        try:
            stored = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            if stored.pop("format") != FORMAT:
                raise ModelError(f"{folder}: this version of paramcast reads own models of format {FORMAT}")
            digest = stored.pop("sha256")
            stored["targets"] = tuple(stored["targets"])
            model = cls(OwnConfig(**stored), module, Uplink(**load_arrays(folder / "uplink.safetensors")))
            for name, part in model._modules().items():
                part.load_state_dict(load_file(folder / f"{name}.safetensors"))
        except OSError as error:
            raise ModelError(f"{folder} holds no whole model: {error}") from error
        except ModelError:
            raise
        except (InputError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise ModelError(f"{folder} is not a model of this module: {error}") from error
        if model.sha256() != digest:
            raise ModelError(f"{folder}: files have changed since they were written; copy it anew")
        return model

    def _modules(self) -> dict[str, nn.Module]:
        return {"base": self.module} | {f"adaptor-{name}": part for name, part in self.adaptors.items()}


def _owned(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies that share no memory, as safetensors wants them."""
    return {name: value.detach().clone().contiguous() for name, value in tensors.items()}
