"""Frozen trunks: frames, sentences and sounds in, features out; `image_encoder` and the like make them."""

from paramcast.video.encoders.base import (
    AUDIO_ENCODERS,
    IMAGE_ENCODERS,
    TEXT_ENCODERS,
    AudioEncoder,
    ImageEncoder,
    TextEncoder,
    audio_encoder,
    image_encoder,
    shared_dim,
    text_encoder,
)

__all__ = [
    "AUDIO_ENCODERS",
    "IMAGE_ENCODERS",
    "TEXT_ENCODERS",
    "AudioEncoder",
    "ImageEncoder",
    "TextEncoder",
    "audio_encoder",
    "image_encoder",
    "shared_dim",
    "text_encoder",
]
