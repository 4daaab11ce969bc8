"""One thread of torch: these tensors are small, and tests share their cores with other work."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
