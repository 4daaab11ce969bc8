"""What an adaptor's lessons show."""

from __future__ import annotations

import numpy as np
import torch

from paramcast.video.training.bank import Bank, OffsetBank


def test_an_offset_moves_all_that_a_device_sees_and_hears() -> None:
    torch.manual_seed(0)
    plain = Bank(torch.randn(5, 3, 4), torch.ones(5, 3, dtype=torch.bool), {}, torch.randn(6, 2), {})
    frame_offsets, text_offsets = torch.randn(2, 4), torch.randn(2, 2)
    moved = OffsetBank(plain.frames, plain.mask, {}, plain.texts, {}, frame_offsets, text_offsets)
    rows = np.array([[0, 1, 2], [3, 4, 0]])
    frames, mask = plain.some_frames(rows, np.random.default_rng(0))
    found, found_mask = moved.some_frames(rows, np.random.default_rng(0))
    torch.testing.assert_close(found - frames, frame_offsets[:, None, None].expand_as(frames))
    assert (mask == found_mask).all()
    texts = plain.some_texts(rows)
    torch.testing.assert_close(moved.some_texts(rows) - texts, text_offsets[:, None].expand_as(texts))
