"""Models of transformers for sounds, for time series, or for several kinds of input."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from experiments.architectures.language import PAIR, SMALL, WORDS, hugging, tokens
from experiments.architectures.registry import ROWS
from experiments.architectures.senses import IMAGE, pixels, sound

_WAVE: dict[str, Any] = {
    **SMALL,
    "conv_dim": (8, 8),
    "conv_stride": (5, 4),
    "conv_kernel": (10, 4),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "vocab_size": 20,
}
_WAVE_TARGETS = "*.encoder *.feature_projection projector classifier"
hugging(
    "wav2vec 2 classifier",
    "Wav2Vec2ForSequenceClassification",
    sound(),
    _WAVE_TARGETS,
    **_WAVE,
    classifier_proj_size=8,
)
hugging("wav2vec 2 CTC", "Wav2Vec2ForCTC", sound(), "wav2vec2.encoder lm_head", **_WAVE)
hugging(
    "wav2vec 2, masked",
    "Wav2Vec2Model",
    lambda: {
        **sound()(),
        "attention_mask": torch.cat([torch.ones(ROWS, 300), torch.zeros(ROWS, 100)], 1).long(),
    },
    "encoder",
    **_WAVE,
    feat_extract_norm="layer",
)
hugging(
    "HuBERT classifier",
    "HubertForSequenceClassification",
    sound(),
    _WAVE_TARGETS,
    **_WAVE,
    classifier_proj_size=8,
)
hugging(
    "WavLM classifier",
    "WavLMForSequenceClassification",
    sound(),
    "*.encoder.layers.*.feed_forward projector classifier",
    **_WAVE,
    classifier_proj_size=8,
)
hugging(
    "data2vec audio",
    "Data2VecAudioForSequenceClassification",
    sound(),
    _WAVE_TARGETS,
    **_WAVE,
    classifier_proj_size=8,
)
hugging(
    "SEW",
    "SEWForSequenceClassification",
    sound(),
    "*.encoder.layers projector classifier",
    **_WAVE,
    classifier_proj_size=8,
    squeeze_factor=2,
)
hugging(
    "UniSpeech-SAT",
    "UniSpeechSatForSequenceClassification",
    sound(),
    _WAVE_TARGETS,
    **_WAVE,
    classifier_proj_size=8,
)
_WHISPER: dict[str, Any] = {
    "vocab_size": 30,
    "num_mel_bins": 8,
    **PAIR,
    "max_source_positions": 10,
    "max_target_positions": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}
hugging(
    "Whisper",
    "WhisperForConditionalGeneration",
    lambda: {
        "input_features": torch.randn(ROWS, 8, 20),
        "decoder_input_ids": torch.randint(3, 29, (ROWS, 4)),
    },
    "model.encoder.layers model.decoder.layers",
    **_WHISPER,
)
hugging(
    "Whisper classifier",
    "WhisperForAudioClassification",
    lambda: {"input_features": torch.randn(ROWS, 8, 20)},
    "encoder.layers projector classifier",
    **_WHISPER,
)
hugging(
    "Speech2Text",
    "Speech2TextForConditionalGeneration",
    lambda: {
        "input_features": torch.randn(ROWS, 20, 8),
        "decoder_input_ids": torch.randint(3, 29, (ROWS, 4)),
    },
    "model.encoder.layers model.decoder.layers",
    vocab_size=30,
    **PAIR,
    input_feat_per_channel=8,
    conv_channels=16,
    max_source_positions=20,
    max_target_positions=8,
)
hugging(
    "audio spectrogram transformer",
    "ASTForAudioClassification",
    lambda: {"input_values": torch.randn(ROWS, 24, 16)},
    **SMALL,
    max_length=24,
    num_mel_bins=16,
    patch_size=8,
    frequency_stride=8,
    time_stride=8,
)
hugging(
    "EnCodec",
    "EncodecModel",
    lambda: {"input_values": torch.randn(ROWS, 1, 320)},
    "decoder !decoder.layers.0.conv",  # its inputs are all zero
    num_filters=4,
    num_residual_layers=1,
    upsampling_ratios=[4, 2],
    codebook_size=8,
    codebook_dim=8,
    hidden_size=8,
    num_lstm_layers=1,
    target_bandwidths=[60.0],
)

_TEXT: dict[str, Any] = {**SMALL, **WORDS, "eos_token_id": 29, "bos_token_id": 1}


def both() -> dict[str, Tensor]:
    """Make tokens and pictures."""
    return {**tokens(), **pixels()()}


hugging(
    "CLIP",
    "CLIPModel",
    both,
    "text_model vision_model *projection",
    text_config=_TEXT,
    vision_config=IMAGE,
    projection_dim=8,
)
hugging("CLIP, vision with projection", "CLIPVisionModelWithProjection", pixels(), **IMAGE, projection_dim=8)
hugging("CLIP, text with projection", "CLIPTextModelWithProjection", tokens, **_TEXT, projection_dim=8)
hugging(
    "SigLIP",
    "SiglipModel",
    both,
    "text_model vision_model.encoder",
    text_config={**_TEXT, "projection_size": 16},
    vision_config=IMAGE,
)
hugging(
    "SigLIP classifier",
    "SiglipForImageClassification",
    pixels(),
    "* !vision_model.head",  # the classifier does not use it
    vision_config=IMAGE,
    text_config=_TEXT,
)
hugging(
    "BLIP retrieval",
    "BlipForImageTextRetrieval",
    both,
    "vision_model text_encoder.encoder itm_head",
    text_config={**_TEXT, "encoder_hidden_size": 16},
    vision_config=IMAGE,
    image_text_hidden_size=8,
    projection_dim=8,
)
hugging(
    "ViLT",
    "ViltModel",
    lambda: {**both(), "pixel_mask": torch.ones(ROWS, 16, 16, dtype=torch.int64)},
    "encoder pooler",
    **IMAGE,
    **WORDS,
)
hugging(
    "VisualBERT",
    "VisualBertModel",
    lambda: {
        **tokens(),
        "visual_embeds": torch.randn(ROWS, 3, 10),
        "visual_attention_mask": torch.ones(ROWS, 3, dtype=torch.int64),
    },
    "encoder pooler",
    **SMALL,
    **WORDS,
    visual_embedding_dim=10,
)
hugging(
    "LXMERT",
    "LxmertModel",
    lambda: {**tokens(), "visual_feats": torch.randn(ROWS, 3, 10), "visual_pos": torch.rand(ROWS, 3, 4)},
    "encoder.layer encoder.x_layers.0.visual_attention",
    **SMALL,
    **WORDS,
    visual_feat_dim=10,
    l_layers=1,
    x_layers=1,
    r_layers=1,
)
hugging("FLAVA image", "FlavaImageModel", pixels(), "encoder layernorm pooler", **IMAGE)
hugging(
    "CLAP",
    "ClapAudioModelWithProjection",
    lambda: {"input_features": torch.randn(ROWS, 1, 64, 16)},
    "audio_projection audio_model.audio_encoder.layers.0",
    spec_size=32,
    num_mel_bins=16,
    window_size=4,
    patch_size=4,
    patch_stride=[4, 4],
    patch_embeds_hidden_size=8,
    depths=[1, 1],
    num_attention_heads=[2, 2],
    hidden_size=16,
    projection_dim=8,
)
hugging(
    "Perceiver",
    "PerceiverModel",
    lambda: {"inputs": torch.randn(ROWS, 7, 12)},
    num_latents=4,
    d_latents=16,
    d_model=12,
    num_blocks=1,
    num_self_attends_per_block=1,
    num_self_attention_heads=2,
    num_cross_attention_heads=2,
)

_SERIES: dict[str, Any] = {"num_input_channels": 3, "context_length": 16, "d_model": 16}
hugging(
    "PatchTST classifier",
    "PatchTSTForClassification",
    lambda: {"past_values": torch.randn(ROWS, 16, 3)},
    "model.encoder.layers head",
    **_SERIES,
    patch_length=4,
    patch_stride=4,
    num_attention_heads=2,
    num_hidden_layers=1,
    ffn_dim=24,
    num_targets=3,
    use_cls_token=True,
)
hugging(
    "PatchTSMixer classifier",
    "PatchTSMixerForTimeSeriesClassification",
    lambda: {"past_values": torch.randn(ROWS, 16, 3)},
    "model.encoder head",
    **_SERIES,
    patch_length=4,
    patch_stride=4,
    num_layers=1,
    num_targets=3,
)
hugging(
    "Autoformer",
    "AutoformerModel",
    lambda: {
        "past_values": torch.randn(ROWS, 20),
        "past_time_features": torch.randn(ROWS, 20, 1),
        "past_observed_mask": torch.ones(ROWS, 20),
    },
    "encoder !encoder.embed_positions",
    prediction_length=4,
    context_length=16,
    lags_sequence=[1, 2, 4],
    num_time_features=1,
    **PAIR,
)
