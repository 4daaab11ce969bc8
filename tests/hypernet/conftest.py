"""Sets torch to one thread: the tensors are small, and tests share their cores with other work."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
