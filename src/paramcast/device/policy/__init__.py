"""When to ask the cloud: one file a family of policies."""

from paramcast.device.policy.base import History, RequestPolicy, make_policy
from paramcast.device.policy.budget import Budget
from paramcast.device.policy.drift import OnDrift, drift_scores
from paramcast.device.policy.fixed import Always, Every, Never

__all__ = [
    "Always",
    "Budget",
    "Every",
    "History",
    "Never",
    "OnDrift",
    "RequestPolicy",
    "drift_scores",
    "make_policy",
]
