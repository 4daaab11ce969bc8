"""Multi-Modal Adapter: few-shot adaptation of dual encoders by attention between image and class texts."""

from paramcast.methods.mm_adapter.errors import FewShotError
from paramcast.methods.mm_adapter.estimator import MultiModalAdapter

__all__ = ["FewShotError", "MultiModalAdapter"]
