"""Frozen trunks: frames and sentences in, features out; `image_encoder` and `text_encoder` make them."""

from paramcast.encoders.base import (
    IMAGE_ENCODERS,
    TEXT_ENCODERS,
    ImageEncoder,
    TextEncoder,
    image_encoder,
    shared_dim,
    text_encoder,
)

__all__ = [
    "IMAGE_ENCODERS",
    "TEXT_ENCODERS",
    "ImageEncoder",
    "TextEncoder",
    "image_encoder",
    "shared_dim",
    "text_encoder",
]
