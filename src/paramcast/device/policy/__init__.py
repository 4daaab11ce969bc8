"""Policies that decide when to request a package; each family of policies has a file."""

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
