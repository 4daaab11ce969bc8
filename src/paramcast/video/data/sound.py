"""The sound of clips, in the form that audio encoders read."""

from __future__ import annotations

import numpy as np

from paramcast.errors import MissingExtraError
from paramcast.video.data.collection import Clip


def read_sound(clip: Clip, rate: int = 16_000) -> np.ndarray:
    """Decode the first audio stream of a clip.

    Args:
        clip: A clip with a video file that has sound.
        rate: Samples per second.

    Returns:
        (S,) float32 in [-1, 1], the mean of the channels.

    Raises:
        CollectionError: The clip is a folder of pictures, or its file is broken or has no sound.
        MissingExtraError: PyAV is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise MissingExtraError("reading clips", "video") from error
    if clip.video is None:
        raise clip.error("pictures have no sound; give a video file")
    try:
        with av.open(clip.paths[0]) as container:
            if not container.streams.audio:
                raise ValueError("the file holds no audio stream")
            # Keep all channels and average them here: FFmpeg's conversion to mono makes the sound louder.
            resampler = av.AudioResampler("fltp", None, rate)
            parts = [
                part.to_ndarray().mean(0)
                for frame in (*container.decode(container.streams.audio[0]), None)
                for part in resampler.resample(frame)
            ]
    except Exception as error:  # decoders raise many types of errors on a broken file
        raise clip.error(f"cannot decode the sound ({error}); replace the file or remove the line") from error
    sound = np.concatenate(parts) if parts else np.empty(0, np.float32)
    end = None if clip.end is None else round(clip.end * rate)
    return sound[round((clip.start or 0) * rate) : end]


def sound_windows(sound: np.ndarray, window: int, hop: int | None = None) -> np.ndarray:
    """Cut a sound into windows; the last window is padded with silence.

    Args:
        sound: (S,) float32.
        window: Samples of a window.
        hop: Samples from the start of a window to the start of the next; None: half a window.

    Returns:
        (T, window) float32, T >= 1; an empty sound gives one window of silence.
    """
    hop = hop or window // 2
    count = 1 + max(0, -(-(len(sound) - window) // hop))
    filled = np.zeros(window + (count - 1) * hop, np.float32)
    filled[: len(sound)] = sound
    return np.ascontiguousarray(np.lib.stride_tricks.sliding_window_view(filled, window)[::hop])
