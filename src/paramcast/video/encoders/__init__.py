"""Frozen encoders from frames, texts and sounds to features; `image_encoder` and so on make them."""

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
