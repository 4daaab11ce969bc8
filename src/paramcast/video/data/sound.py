"""The sound of clips, as audio trunks take it."""

from __future__ import annotations

import numpy as np

from paramcast.errors import MissingExtraError
from paramcast.video.data.collection import Clip


def read_sound(clip: Clip, rate: int = 16_000) -> np.ndarray:
    """Decode the first audio stream of a clip.

    Args:
        clip: With a video file that has sound.
        rate: Samples a second.

    Returns:
        (S,) float32 in [-1, 1], the mean of the channels.

    Raises:
        CollectionError: The clip is a folder of pictures, or its file broken or without sound.
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
            # The channels as they are: FFmpeg's own way to one channel makes them louder than they were.
            resampler = av.AudioResampler("fltp", None, rate)
            parts = [
                part.to_ndarray().mean(0)
                for frame in (*container.decode(container.streams.audio[0]), None)
                for part in resampler.resample(frame)
            ]
    except Exception as error:  # what decoders raise on a broken file is an open list
        raise clip.error(f"cannot decode the sound ({error}); replace the file or remove the line") from error
    sound = np.concatenate(parts) if parts else np.empty(0, np.float32)
    end = None if clip.end is None else round(clip.end * rate)
    return sound[round((clip.start or 0) * rate) : end]


def sound_windows(sound: np.ndarray, window: int, hop: int | None = None) -> np.ndarray:
    """Cut a sound into windows, the last one filled up with silence.

    Args:
        sound: (S,) float32.
        window: Samples of each.
        hop: Samples from one's start to the next one's; half a window if nothing is said.

    Returns:
        (T, window) float32; T is 1 at least, so that no sound is silence.
    """
    hop = hop or window // 2
    count = 1 + max(0, -(-(len(sound) - window) // hop))
    filled = np.zeros(window + (count - 1) * hop, np.float32)
    filled[: len(sound)] = sound
    return np.ascontiguousarray(np.lib.stride_tricks.sliding_window_view(filled, window)[::hop])
