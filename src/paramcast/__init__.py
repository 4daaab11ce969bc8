"""paramcast: cloud-generated parameters for small multi-modal models on devices.

A device sends a few hundred bytes about one anchor frame a clip and its queries; the cloud answers with
parameters made for that device in one forward pass; the device swaps them in. The method is CDC-MMPG
(Ji et al., arXiv 2406.01601).
"""

__version__ = "0.1.0"
