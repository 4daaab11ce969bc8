"""Tiny models of many architectures, with random weights: name -> build() -> (module, inputs, patterns).

Models in plain torch, and the function that registers models, are in `plain_architectures.py`.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from plain_architectures import ARCHITECTURES, NEEDS, ROWS, Built, another, architecture, is_missing
from torch import Tensor

__all__ = ["ARCHITECTURES", "NEEDS", "another", "is_missing"]

# ---- transformers ----------------------------------------------------------------------------------------

_SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
_IMAGE = {**_SMALL, "image_size": 16, "patch_size": 8}
_WORDS = {"vocab_size": 30, "max_position_embeddings": 16}


def _hugging(name: str, model: str, inputs: Callable[[], Any], targets: list[str], **options: Any) -> None:
    @architecture(f"transformers {name}")
    def _() -> Built:
        if importlib.util.find_spec("torchvision"):
            import_torchvision()  # transformers imports it if it is installed
        import transformers

        module = getattr(transformers, model)
        return module(module.config_class(**options)), inputs(), targets


def _tokens() -> dict[str, Tensor]:
    return {
        "input_ids": torch.randint(3, 29, (ROWS, 6)),
        "attention_mask": torch.ones(ROWS, 6, dtype=torch.int64),
    }


def _pixels(side: int = 16) -> Callable[[], dict[str, Tensor]]:
    return lambda: {"pixel_values": torch.randn(ROWS, 3, side, side)}


_hugging("BERT", "BertModel", _tokens, ["*"], **_SMALL, **_WORDS)
_hugging("ALBERT, shared layers", "AlbertModel", _tokens, ["encoder"], **_SMALL, **_WORDS, embedding_size=8)
_hugging("ELECTRA", "ElectraModel", _tokens, ["encoder"], **_SMALL, **_WORDS, embedding_size=8)
_hugging("GPT-2", "GPT2Model", _tokens, ["*"], vocab_size=30, n_positions=16, n_embd=16, n_layer=1, n_head=2)
_hugging("Llama", "LlamaModel", _tokens, ["*"], **_SMALL, **_WORDS)
_hugging(
    "T5 encoder",
    "T5EncoderModel",
    _tokens,
    ["encoder"],
    vocab_size=30,
    d_model=16,
    d_kv=8,
    d_ff=24,
    num_layers=1,
    num_heads=2,
)
_hugging(
    "XLNet",
    "XLNetModel",
    _tokens,
    ["layer.0.ff", "word_embedding"],
    vocab_size=30,
    d_model=16,
    n_layer=1,
    n_head=2,
    d_inner=24,
)
_hugging(
    "DistilBERT",
    "DistilBertModel",
    _tokens,
    ["*"],
    vocab_size=30,
    dim=16,
    n_layers=1,
    n_heads=2,
    hidden_dim=24,
)
_hugging("ViT", "ViTModel", _pixels(), ["*"], **_IMAGE)
_hugging("DeiT", "DeiTModel", _pixels(), ["encoder", "layernorm"], **_IMAGE)
_hugging("DINOv2", "Dinov2Model", _pixels(), ["encoder"], **_IMAGE)
_hugging("BEiT", "BeitModel", _pixels(), ["encoder", "pooler"], **_IMAGE, use_relative_position_bias=True)
_hugging(
    "Swin v2",
    "Swinv2Model",
    _pixels(),
    ["encoder"],
    image_size=16,
    patch_size=2,
    embed_dim=8,
    depths=[2],
    num_heads=[2],
    window_size=4,
)
_hugging(
    "VideoMAE",
    "VideoMAEModel",
    lambda: {"pixel_values": torch.randn(ROWS, 4, 3, 16, 16)},
    ["*"],
    **_IMAGE,
    num_frames=4,
)
_hugging(
    "CLIP, two towers",
    "CLIPModel",
    lambda: {**_tokens(), **_pixels()()},
    ["text_model", "vision_model", "*projection"],
    text_config={**_SMALL, **_WORDS, "eos_token_id": 29, "bos_token_id": 1},
    vision_config=_IMAGE,
    projection_dim=8,
)
_hugging(
    "wav2vec 2",
    "Wav2Vec2Model",
    lambda: {"input_values": torch.randn(ROWS, 320)},
    ["encoder", "feature_projection", "feature_extractor"],
    **_SMALL,
    conv_dim=(8, 8),
    conv_stride=(5, 4),
    conv_kernel=(10, 4),
    num_feat_extract_layers=2,
    num_conv_pos_embeddings=4,
    num_conv_pos_embedding_groups=2,
)
_hugging(
    "audio spectrogram transformer",
    "ASTModel",
    lambda: {"input_values": torch.randn(ROWS, 24, 16)},
    ["*"],
    **_SMALL,
    max_length=24,
    num_mel_bins=16,
    patch_size=8,
    frequency_stride=8,
    time_stride=8,
)
_hugging(
    "PatchTST of time series",
    "PatchTSTModel",
    lambda: {"past_values": torch.randn(ROWS, 16, 3)},
    ["encoder.layers"],
    num_input_channels=3,
    context_length=16,
    patch_length=4,
    patch_stride=4,
    d_model=16,
    num_attention_heads=2,
    num_hidden_layers=1,
    ffn_dim=24,
)
_hugging(
    "SegFormer",
    "SegformerModel",
    _pixels(32),
    ["encoder"],
    num_encoder_blocks=2,
    depths=[1, 1],
    sr_ratios=[2, 1],
    hidden_sizes=[8, 16],
    patch_sizes=[7, 3],
    strides=[4, 2],
    num_attention_heads=[1, 2],
    mlp_ratios=[2, 2],
)
_hugging(
    "ConvNeXt V2",
    "ConvNextV2Model",
    _pixels(32),
    ["encoder"],
    hidden_sizes=[8, 16],
    depths=[1, 1],
    num_stages=2,
)
_hugging("ResNet", "ResNetModel", _pixels(32), ["*"], embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])


# ---- timm ------------------------------------------------------------------------------------------------


def _timm(name: str, model: str, targets: list[str], side: int = 32, **options: Any) -> None:
    @architecture(f"timm {name}", needs="timm")
    def _() -> Built:
        import_torchvision()
        import timm

        module = timm.create_model(model, pretrained=False, num_classes=3, **options)
        return module, torch.randn(ROWS, 3, side, side), targets


def import_torchvision() -> None:
    """Import torchvision from the Makefile's separate folder, which also contains timm and open_clip."""
    if (packages := str(Path(sys.prefix) / "clip")) not in sys.path:
        sys.path.append(packages)
    from paramcast.video.encoders.optional import _import_torchvision

    _import_torchvision()


_TINY_VIT = {"img_size": 32, "embed_dim": 16, "depth": 1, "num_heads": 2}
_timm("ViT", "vit_tiny_patch16_224", ["*"], **_TINY_VIT)
_timm("ResNet", "test_resnet", ["*"])
_timm("EfficientNet", "test_efficientnet", ["*"])
_timm("MobileNetV3", "tf_mobilenetv3_small_minimal_100", ["conv_stem", "bn1", "blocks.0", "classifier"])
_timm("NFNet, standardized convolutions", "test_nfnet", ["*"], side=64)
_timm("ConvNeXt", "test_convnext", ["*"])
_timm("RepVGG", "test_byobnet", ["*"])
_timm(
    "Swin",
    "swin_tiny_patch4_window7_224",
    ["*"],
    img_size=32,
    window_size=4,
    embed_dim=8,
    depths=(2,),
    num_heads=(2,),
)
_timm(
    "EVA-02",
    "eva02_tiny_patch14_224",
    ["*"],
    img_size=28,
    side=28,
    embed_dim=16,
    depth=1,
    num_heads=2,
)


@architecture("timm MLP-Mixer", needs="timm")
def _mixer() -> Built:
    import_torchvision()
    from timm.models.mlp_mixer import MlpMixer

    return MlpMixer(3, 32, patch_size=16, num_blocks=1, embed_dim=16), torch.randn(ROWS, 3, 32, 32), ["*"]


@architecture("timm MaxViT, position biases from an MLP", needs="timm")
def _maxvit() -> Built:
    import_torchvision()
    from timm.models.maxxvit import MaxxVit, MaxxVitCfg, MaxxVitTransformerCfg

    attention = MaxxVitTransformerCfg(dim_head=4, rel_pos_type="mlp", window_size=(4, 4), grid_size=(4, 4))
    config = MaxxVitCfg((8,), (1,), ("M",), stem_width=8, transformer_cfg=attention)
    return MaxxVit(config, 16, num_classes=3), torch.randn(ROWS, 3, 16, 16), ["*"]


# ---- torchvision and open_clip ---------------------------------------------------------------------------


@architecture("torchvision Swin", needs="torchvision")
def _vision_swin() -> Built:
    import_torchvision()
    from torchvision.models.swin_transformer import SwinTransformer

    net = SwinTransformer([4, 4], 8, [2], [2], [4, 4], num_classes=3)
    return net, torch.randn(ROWS, 3, 16, 16), ["*"]


@architecture("torchvision MobileNetV3", needs="torchvision")
def _vision_mobile() -> Built:
    import_torchvision()
    from torchvision.models import mobilenet_v3_small

    net = mobilenet_v3_small(width_mult=0.25, num_classes=3)
    return net, torch.randn(ROWS, 3, 32, 32), ["features.0", "features.1", "classifier"]


@architecture("open_clip ViT with text", needs="open_clip")
def _open_clip() -> Built:
    import_torchvision()
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    vision = CLIPVisionCfg(layers=1, width=16, head_width=8, patch_size=8, image_size=16)
    text = CLIPTextCfg(context_length=6, vocab_size=30, width=16, heads=2, layers=1)
    inputs = (torch.randn(ROWS, 3, 16, 16), torch.randint(1, 30, (ROWS, 6)))
    return CLIP(8, vision, text), inputs, ["visual", "transformer"]


@architecture("open_clip ResNet with attention pooling", needs="open_clip")
def _open_clip_resnet() -> Built:
    import_torchvision()
    from open_clip.modified_resnet import ModifiedResNet

    return ModifiedResNet([1, 1, 1, 1], 8, 2, image_size=32, width=4), torch.randn(ROWS, 3, 32, 32), ["*"]
