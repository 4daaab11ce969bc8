"""`paramcast`: an update from the cloud for each device; `shuffled`: the update of another device."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from paramcast.methods.background import Background
from paramcast.methods.base import Method, Predictor, Settings, Support, Traffic
from paramcast.methods.meter import Work
from paramcast.protocol import Package, make_key, seal
from paramcast.protocol.quantize import DEFAULT_QUANTIZATION
from paramcast.video.tasks.base import Asked

_EXPIRES = 2_000_000_000  # any time, since all times take the same number of bytes


class Paramcast(Method):
    """The model's own adaptor: features of anchor frames and queries go up, parameters come down."""

    on_cloud = True

    def prepare(self, background: Background) -> None:
        """Compute the digest of the model; the adaptor is already trained."""
        super().prepare(background)
        self._digest = background.model.sha256()

    def adapt(self, support: Support, settings: Settings, seed: int) -> Predictor:
        """Run the adaptor once."""
        model, bank = self.background.model, support.samples.bank
        values = self._generate(support)
        adapted = model.adaptor.adapted

        def predict(asked: Asked) -> Tensor:
            with torch.no_grad(), adapted.use(values):
                return model.task.outputs(adapted.replica, bank, asked)

        return predict

    def traffic(self, support: Support, settings: Settings) -> Traffic:
        """Return the bytes of the real request and of the real sealed update."""
        request = support.samples.table.request(support.device, self._digest, support.clips)
        tensors = {name: tensor[0].numpy() for name, tensor in self._generate(support).items()}
        form = self.background.model.config.form
        package = Package(
            support.device, self._digest, 1, _EXPIRES, form, DEFAULT_QUANTIZATION, tensors, _EXPIRES
        )
        return Traffic(len(request.encode()), len(seal(package, make_key())), ("features",))

    def device_work(self, support: Support, settings: Settings) -> Work:
        """Return the products and the memory of a request and an update.

        The products are the projections of an anchor and of a mean query for each clip. The memory holds the
        request, the update and its tensors.
        """
        model, sent = self.background.model, self.traffic(support, settings)
        macs = len(support.clips) * (model.image_uplink.matrix.size + model.text_uplink.matrix.size)
        tensors = sum(4 * value.numel() for value in self._generate(support).values())
        return Work(macs, sent.up + sent.down + tensors)

    def _generate(self, support: Support) -> dict[str, Tensor]:
        model = self.background.model
        inputs = support.samples.table.context(
            [support.clips], [np.zeros(model.config.truth_dim, np.float32)]
        )
        return model.adaptor.generate(inputs)


class Shuffled(Paramcast):
    """The update of another device: its gain does not come from the device's own data."""

    swapped = True
