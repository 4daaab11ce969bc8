"""Models of timm, torchvision and open_clip."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from experiments.architectures.registry import ROWS, Built, model


def import_torchvision() -> None:
    """Import torchvision; the Makefile puts it, timm and open_clip in a folder apart from other packages."""
    if (packages := str(Path(sys.prefix) / "clip")) not in sys.path:
        sys.path.append(packages)
    from paramcast.video.encoders.optional import _import_torchvision

    _import_torchvision()


def _timm(name: str, kind: str, targets: str = "*", side: int = 32, **options: Any) -> None:
    @model("timm", name, targets)
    def _() -> Built:
        import_torchvision()
        import timm

        return timm.create_model(kind, pretrained=False, num_classes=3, **options), torch.randn(
            ROWS, 3, side, side
        )


def _timm_class(name: str, place: str, targets: str = "*", **options: Any) -> None:
    """Register a model by its class, where the named variants of timm fix the sizes."""

    @model("timm", name, targets)
    def _() -> Built:
        import_torchvision()
        module, _, kind = place.rpartition(".")
        made = getattr(import_module(f"timm.models.{module}"), kind)
        return made(num_classes=3, **options), torch.randn(ROWS, 3, 32, 32)


_VIT: dict[str, Any] = {"img_size": 32, "embed_dim": 16, "depth": 1, "num_heads": 2}
_timm("ViT", "vit_tiny_patch16_224", **_VIT)
_timm("test ViT", "test_vit", side=160)
_timm("test ViT 2", "test_vit2", side=64)
_timm("test ViT 3, attention pooling", "test_vit3", side=160)
_timm("DeiT distilled", "deit_tiny_distilled_patch16_224", **_VIT)
_timm("BEiT v2", "beitv2_base_patch16_224", "blocks head", **_VIT)
_timm("EVA-02", "eva02_tiny_patch14_224", side=28, **{**_VIT, "img_size": 28})
_timm("SwiGLU ViT with registers", "vit_small_patch14_reg4_dinov2", side=28, **{**_VIT, "img_size": 28})
_timm("NaFlex-like ViT of SigLIP", "vit_base_patch16_siglip_224", **_VIT)
_timm("CaiT", "cait_xxs24_224", **_VIT)
_timm("XCiT", "xcit_nano_12_p16_224", **_VIT)
_timm(
    "LeViT",
    "levit_128s",
    "stages.0 head !*.attention_biases",  # it caches them at its first call
    img_size=64,
    side=64,
    embed_dim=(16, 16, 16),
    num_heads=(2, 2, 2),
    key_dim=4,
    depth=(1, 1, 1),
)
_timm(
    "Swin",
    "swin_tiny_patch4_window7_224",
    img_size=32,
    window_size=4,
    embed_dim=8,
    depths=(2,),
    num_heads=(2,),
)
_timm(
    "Swin v2", "swinv2_tiny_window8_256", img_size=32, window_size=4, embed_dim=8, depths=(2,), num_heads=(2,)
)
_timm(
    "Twins",
    "twins_svt_small",
    "blocks.0 head",
    img_size=32,
    embed_dims=(8, 8, 8, 8),
    num_heads=(1, 1, 1, 1),
    depths=(1, 1, 1, 1),
    wss=(2, 2, 2, 2),
)
_timm("PiT", "pit_ti_224", img_size=64, side=64, base_dims=(8, 8, 8), heads=(2, 2, 2), depth=(1, 1, 1))
_timm(
    "CoaT Lite",
    "coat_lite_tiny",
    "serial_blocks1 head",
    img_size=32,
    embed_dims=(32, 32, 32, 32),
    serial_depths=(1, 1, 1, 1),
    num_heads=8,
)
_timm("PVT v2", "pvt_v2_b0", embed_dims=(8, 8, 8, 8), num_heads=(1, 1, 1, 1), depths=(1, 1, 1, 1))
_timm("EdgeNeXt", "edgenext_xx_small", dims=(8, 8, 16, 16), depths=(1, 1, 1, 2), side=64, heads=(2, 2, 2, 2))
_timm("FastViT", "fastvit_t8", "stages.0 head", embed_dims=(8, 8, 8, 8), layers=(1, 1, 1, 1), side=64)
_timm("MobileOne", "mobileone_s0", "stages.0 head")
_timm("ConvNeXt", "test_convnext")
_timm("ConvNeXt 2", "test_convnext2")
_timm("ResNet", "test_resnet")
_timm("EfficientNet", "test_efficientnet")
_timm("EfficientNet with GroupNorm", "test_efficientnet_gn")
_timm("MobileNetV3", "mobilenetv3_small_050", "conv_stem bn1 blocks.0 classifier")
_timm("MobileNetV4", "mobilenetv4_conv_small_035", "conv_stem bn1 blocks.0 classifier")
_timm("GhostNet", "ghostnet_050", "conv_stem blocks.0 classifier")
_timm("NFNet, standardized convolutions", "test_nfnet", side=64)
_timm("RepVGG", "test_byobnet")
_timm("MambaOut", "test_mambaout", side=64)
_timm(
    "DenseNet",
    "densenet121",
    "features.conv0 features.denseblock1.denselayer1 classifier",
    growth_rate=4,
    block_config=(1, 1, 1, 1),
)
_timm("DLA", "dla46_c", "base_layer level0 level2 fc")
_timm("RegNet", "regnetx_002", "stem head")
_timm_class("PoolFormer", "metaformer.MetaFormer", "stages.0 head", dims=(8, 8), depths=(1, 1))
_timm_class(
    "FocalNet", "focalnet.FocalNet", embed_dim=8, depths=(1, 1), focal_levels=(1, 1), focal_windows=(3, 3)
)
_timm_class("MLP-Mixer of one block", "mlp_mixer.MlpMixer", img_size=32, embed_dim=16, num_blocks=1)
_timm_class("ConvMixer", "convmixer.ConvMixer", dim=16, depth=1)
_timm(
    "Sequencer",
    "sequencer2d_s",
    img_size=32,
    embed_dims=(16, 16, 16, 16),
    hidden_sizes=(4, 4, 4, 4),
    layers=(1, 1, 1, 1),
)
_timm(
    "TinyViT",
    "tiny_vit_5m_224",
    "stages.1 head !*.attention_biases",  # it caches them at its first call
    side=64,
    embed_dims=(8, 8, 16, 16),
    depths=(1, 1, 1, 1),
    num_heads=(1, 1, 2, 2),
    window_sizes=(4, 4, 4, 2),
)
_timm("EfficientViT", "efficientvit_b0", "stem stages.0 head", side=64)
_timm("Inception-ResNet-like", "inception_next_atto", "stages.0 head", side=64)
_timm("StarNet", "starnet_s050", "stages.0 head", side=64)
_timm(
    "Hiera",
    "hiera_tiny_224",
    "blocks.0 head",
    img_size=(64, 64),
    side=64,
    embed_dim=16,
    num_heads=1,
    stages=(1, 1, 1, 1),
)
_timm("MaxViT, position biases from an MLP", "maxvit_rmlp_pico_rw_256", "stages.0 head", img_size=64, side=64)


def _vision(
    name: str, kind: str, targets: str = "*", side: int = 32, shape: tuple[int, ...] = (), **options: Any
) -> None:
    @model("torchvision", name, targets)
    def _() -> Built:
        import_torchvision()
        from torchvision import models

        owner: Any = models
        for part in kind.split("."):
            owner = getattr(owner, part)
        return owner(**options), torch.randn(ROWS, *(shape or (3, side, side)))


_vision("ResNet-18", "resnet18", "conv1 bn1 layer1 fc", num_classes=3)
_vision("SqueezeNet", "squeezenet1_1", "features.0 features.3 classifier", 64, num_classes=3)
_vision("DenseNet", "DenseNet", growth_rate=4, block_config=(1, 1), num_init_features=8, num_classes=3)
_vision(
    "GoogLeNet", "GoogLeNet", "conv1 inception3a fc", 64, num_classes=3, aux_logits=False, init_weights=False
)
_vision("MobileNetV2", "mobilenet_v2", "features.0 features.1 classifier", width_mult=0.25, num_classes=3)
_vision(
    "MobileNetV3", "mobilenet_v3_small", "features.0 features.1 classifier", width_mult=0.25, num_classes=3
)
_vision("MNASNet", "mnasnet0_5", "layers.0 layers.1 classifier", num_classes=3)
_vision("ShuffleNetV2", "shufflenet_v2_x0_5", "conv1 stage2 fc", num_classes=3)
_vision("EfficientNet", "efficientnet_b0", "features.0 features.1 classifier", num_classes=3)
_vision("RegNet", "regnet_x_400mf", "stem fc", num_classes=3)
_vision(
    "ViT",
    "VisionTransformer",
    image_size=16,
    patch_size=8,
    num_layers=1,
    num_heads=2,
    hidden_dim=16,
    mlp_dim=24,
    num_classes=3,
    side=16,
)
_vision(
    "Swin v2",
    "swin_transformer.SwinTransformer",
    "features head",
    16,
    patch_size=[4, 4],
    embed_dim=8,
    depths=[2],
    num_heads=[2],
    window_size=[4, 4],
    num_classes=3,
)
_vision(
    "MaxViT",
    "MaxVit",
    "stem blocks.0 classifier",
    32,
    input_size=(32, 32),
    stem_channels=8,
    partition_size=4,
    block_channels=[8],
    block_layers=[1],
    head_dim=4,
    stochastic_depth_prob=0.0,
    num_classes=3,
)
_vision(
    "LR-ASPP segmentation",
    "segmentation.lraspp_mobilenet_v3_large",
    "classifier",
    weights=None,
    weights_backbone=None,
    num_classes=3,
)
_vision(
    "DeepLabV3 segmentation",
    "segmentation.deeplabv3_mobilenet_v3_large",
    "classifier.4",
    weights=None,
    weights_backbone=None,
    num_classes=3,
)


def _clip(name: str, targets: str, make: Callable[[Any], nn.Module], *shapes: Any) -> None:
    @model("open_clip", name, targets)
    def _() -> Built:
        import_torchvision()
        import open_clip.model

        words = [torch.randint(1, 30, (ROWS, 6))] if "words" in shapes else []
        return make(open_clip.model), (torch.randn(ROWS, 3, 16, 16), *words)


def _text(kinds: Any, **options: Any) -> Any:
    return kinds.CLIPTextCfg(context_length=6, vocab_size=30, width=16, heads=2, layers=1, **options)


def _tower(kinds: Any, **options: Any) -> Any:
    return kinds.CLIPVisionCfg(
        **{"layers": 1, "width": 16, "head_width": 8, "patch_size": 8, "image_size": 16} | options
    )


_clip("two towers", "visual transformer", lambda m: m.CLIP(8, _tower(m), _text(m)), "words")
_clip(
    "two towers, QuickGELU",
    "visual transformer text_projection",
    lambda m: m.CLIP(8, _tower(m), _text(m), quick_gelu=True),
    "words",
)
_clip(
    "a text tower of its own",
    "visual text.transformer",
    lambda m: m.CustomTextCLIP(8, _tower(m), _text(m)),
    "words",
)
_clip(
    "attention pooling",
    "visual",
    lambda m: m.CLIP(
        8, _tower(m, attentional_pool=True, attn_pooler_queries=4, attn_pooler_heads=2), _text(m)
    ),
    "words",
)


@model("open_clip", "ResNet with attention pooling")
def _resnet() -> Built:
    import_torchvision()
    from open_clip.modified_resnet import ModifiedResNet

    return ModifiedResNet([1, 1, 1, 1], 8, 2, image_size=32, width=4), torch.randn(ROWS, 3, 32, 32)
