"""The lightweight models: shapes, masks, and that a batch of clips is no more than each clip alone."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from paramcast.video.models.answer import AnswerModel
from paramcast.video.models.choice import ChoiceModel
from paramcast.video.models.parts import FeatureNorm, masked_mean
from paramcast.video.models.retrieval import RetrievalModel


def test_answers_do_not_depend_on_padding_or_neighbors() -> None:
    torch.manual_seed(0)
    model = AnswerModel(6, 5, 7).eval()
    frames, questions = torch.randn(3, 4, 6), torch.randn(3, 2, 5)
    mask = torch.arange(4) < torch.tensor([[4], [1], [3]])
    together = model(frames, mask, questions)
    assert together.shape == (3, 2, 7)
    for clip in range(3):
        real = frames[clip, mask[clip]]
        alone = model(real, torch.ones(len(real), dtype=torch.bool), questions[clip])
        torch.testing.assert_close(together[clip], alone, atol=1e-5, rtol=1e-5)
    noisy = torch.where(mask[..., None], frames, 100.0)
    torch.testing.assert_close(model(noisy, mask, questions), together)


def test_choices_are_scored_one_by_one() -> None:
    torch.manual_seed(0)
    model = ChoiceModel(6, 5).eval()
    frames, mask = torch.randn(2, 3, 6), torch.ones(2, 3, dtype=torch.bool)
    questions, options = torch.randn(2, 4, 5), torch.randn(2, 4, 3, 5)
    scores = model(frames, mask, questions, options)
    assert scores.shape == (2, 4, 3)
    swapped = model(frames, mask, questions, options.flip(2))
    torch.testing.assert_close(swapped, scores.flip(2), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shared", [0, 3])
def test_embeddings_are_unit_vectors_that_padding_does_not_change(shared: int) -> None:
    torch.manual_seed(0)
    model = RetrievalModel(6, 5, shared).eval()
    frames, mask = torch.randn(2, 3, 6), torch.tensor([[True, True, True], [True, False, False]])
    clips, texts = model(frames, mask, torch.randn(4, 5))
    for embeddings in (clips, texts):
        torch.testing.assert_close(embeddings.norm(dim=-1), torch.ones(len(embeddings)))
    alone = model.embed_clips(frames[1:, :1], mask[1:, :1])
    torch.testing.assert_close(clips[1:], alone)


def test_half_of_a_cosine_is_that_of_the_shared_space_before_and_behind_training() -> None:
    torch.manual_seed(0)
    model = RetrievalModel(6, 5, 3)
    frames, mask, texts = torch.randn(4, 2, 6), torch.ones(4, 2, dtype=torch.bool), torch.randn(4, 5)
    model.image_norm.fit(frames.flatten(0, 1))
    model.text_norm.fit(texts)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5)
    for _ in range(3):
        clips, said = model(frames, mask, texts)
        optimizer.zero_grad()
        (clips @ said.T).square().sum().backward()
        optimizer.step()
    clips, said = model.eval()(frames, mask, texts)
    pooled, means = frames.mean(1), (frames.mean((0, 1)), texts.mean(0))
    shared = [F.normalize(x, dim=-1) for x in ((pooled - means[0])[:, -3:], (texts - means[1])[:, :3])]
    learned = [F.normalize(x[:, :256], dim=-1) for x in (clips, said)]
    expected = (shared[0] @ shared[1].T + learned[0] @ learned[1].T) / 2
    torch.testing.assert_close(clips @ said.T, expected)


def test_features_are_standardized_by_the_training_set() -> None:
    torch.manual_seed(0)
    features = torch.randn(500, 4) * torch.tensor([1.0, 10.0, 0.1, 0.0]) + 3
    norm = FeatureNorm(4)
    norm.fit(features)
    normed = norm(features)
    torch.testing.assert_close(normed.mean(0), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(normed.std(0), torch.tensor([1.0, 1.0, 1.0, 0.0]), atol=1e-3, rtol=0)
    assert list(norm.state_dict()) == ["mean", "scale"]
    assert not list(norm.parameters())


def test_mean_over_frames_is_over_the_real_ones() -> None:
    x = torch.tensor([[1.0], [3.0], [50.0]])
    assert masked_mean(x, torch.tensor([True, True, False])).item() == 2.0
