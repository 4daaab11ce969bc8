"""Models of transformers for pictures and videos."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from experiments.architectures.language import PAIR, SMALL, hugging
from experiments.architectures.registry import ROWS

IMAGE: dict[str, Any] = {**SMALL, "image_size": 16, "patch_size": 8}


def pixels(side: int = 16) -> Callable[[], dict[str, Tensor]]:
    """Return a function that makes pictures (N, 3, side, side)."""
    return lambda: {"pixel_values": torch.randn(ROWS, 3, side, side)}


def _frames() -> dict[str, Tensor]:
    return {"pixel_values": torch.randn(ROWS, 4, 3, 16, 16)}


def sound(length: int = 400) -> Callable[[], dict[str, Tensor]]:
    """Return a function that makes sounds (N, length)."""
    return lambda: {"input_values": torch.randn(ROWS, length)}


_STAGES: dict[str, Any] = {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2}
_RESNET: dict[str, Any] = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 8, 8, 16],
    "depths": [1, 1, 1, 1],
    "out_features": ["stage4"],
}
_SWIN: dict[str, Any] = {
    "image_size": 16,
    "patch_size": 2,
    "embed_dim": 8,
    "depths": [1, 1],
    "num_heads": [2, 2],
    "window_size": 4,
}

hugging("ViT classifier", "ViTForImageClassification", pixels(), **IMAGE)
hugging("DeiT classifier", "DeiTForImageClassification", pixels(), **IMAGE)
hugging("DINOv2 classifier", "Dinov2ForImageClassification", pixels(), "* !*.mask_token", **IMAGE)
hugging("BEiT classifier", "BeitForImageClassification", pixels(), **IMAGE)
hugging(
    "BEiT with relative positions", "BeitModel", pixels(), "encoder", **IMAGE, use_relative_position_bias=True
)
hugging("data2vec vision", "Data2VecVisionForImageClassification", pixels(), **IMAGE)
hugging("Swin classifier", "SwinForImageClassification", pixels(), **_SWIN)
hugging("Swin v2 classifier", "Swinv2ForImageClassification", pixels(), "swinv2.encoder classifier", **_SWIN)
hugging("ConvNeXt", "ConvNextForImageClassification", pixels(32), **_STAGES)
hugging("ConvNeXt V2", "ConvNextV2ForImageClassification", pixels(32), **_STAGES)
hugging(
    "ResNet",
    "ResNetForImageClassification",
    pixels(32),
    embedding_size=8,
    hidden_sizes=[8, 16],
    depths=[1, 1],
)
hugging(
    "RegNet",
    "RegNetForImageClassification",
    pixels(32),
    embedding_size=8,
    hidden_sizes=[8, 16],
    depths=[1, 1],
    groups_width=4,
)
hugging(
    "BiT",
    "BitForImageClassification",
    pixels(32),
    embedding_size=8,
    hidden_sizes=[32, 32],
    depths=[1, 1],
    num_groups=4,
)
hugging(
    "MobileNet V1",
    "MobileNetV1ForImageClassification",
    pixels(32),
    "mobilenet_v1.layer.2 mobilenet_v1.layer.3 classifier",
    depth_multiplier=0.25,
)
hugging(
    "MobileNet V2",
    "MobileNetV2ForImageClassification",
    pixels(32),
    "mobilenet_v2.layer.1 classifier",
    depth_multiplier=0.25,
)
hugging(
    "MobileViT",
    "MobileViTForImageClassification",
    pixels(32),
    "mobilevit.encoder.layer.0 classifier",
    image_size=32,
    hidden_sizes=[16, 16, 16],
    neck_hidden_sizes=[8, 8, 8, 16, 16, 16, 32],
    num_attention_heads=2,
)
hugging(
    "MobileViT V2",
    "MobileViTV2ForImageClassification",
    pixels(64),
    "mobilevitv2.encoder.layer.0 classifier",
    image_size=64,
    width_multiplier=0.25,
)
hugging(
    "EfficientNet",
    "EfficientNetForImageClassification",
    pixels(32),
    "efficientnet.encoder.blocks.0 classifier",
    width_coefficient=0.25,
    depth_coefficient=0.25,
    hidden_dim=320,
)
hugging(
    "SegFormer",
    "SegformerForSemanticSegmentation",
    pixels(32),
    num_encoder_blocks=2,
    depths=[1, 1],
    sr_ratios=[2, 1],
    hidden_sizes=[8, 16],
    patch_sizes=[7, 3],
    strides=[4, 2],
    num_attention_heads=[1, 2],
    mlp_ratios=[2, 2],
    decoder_hidden_size=8,
)
for name, kind, unused in (  # in the first layer, all queries are zero
    ("DETR", "DetrForObjectDetection", "!*.self_attn.v_proj"),
    (
        "Conditional DETR",
        "ConditionalDetrForObjectDetection",
        "!*.layers.0.sa_qcontent_proj !*.layers.0.sa_kcontent_proj !*.sa_v_proj !*.query_scale",
    ),
):
    hugging(
        name,
        kind,
        lambda: {**pixels(64)(), "pixel_mask": torch.ones(ROWS, 64, 64, dtype=torch.int64)},
        f"model.encoder model.decoder class_labels_classifier {unused}",
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        backbone=None,
        backbone_config=_RESNET,
        num_queries=4,
        **PAIR,
    )
hugging(
    "YOLOS",
    "YolosForObjectDetection",
    pixels(),
    "vit.encoder class_labels_classifier bbox_predictor",
    **{**IMAGE, "image_size": [16, 16]},
    num_detection_tokens=3,
)
hugging(
    "DPT depth",
    "DPTForDepthEstimation",
    pixels(),
    "dpt.encoder head",
    **{**IMAGE, "num_hidden_layers": 4},
    backbone_out_indices=[0, 1, 2, 3],
    neck_hidden_sizes=[8, 8, 8, 8],
    fusion_hidden_size=8,
)
hugging(
    "PVT",
    "PvtForImageClassification",
    pixels(64),
    image_size=64,
    depths=[1, 1, 1, 1],
    hidden_sizes=[8, 8, 8, 8],
    num_attention_heads=[1, 1, 1, 1],
    mlp_ratios=[2, 2, 2, 2],
)
hugging("PoolFormer", "PoolFormerForImageClassification", pixels(64), depths=[1] * 4, hidden_sizes=[8] * 4)
hugging(
    "LeViT",
    "LevitForImageClassification",
    pixels(64),
    "levit.encoder.stages.0 classifier !*.attention_biases",  # it caches them at its first call
    image_size=64,
    hidden_sizes=[16, 16, 16],
    num_attention_heads=[2, 2, 2],
    depths=[1, 1, 1],
    key_dim=[4, 4, 4],
)
hugging(
    "FocalNet",
    "FocalNetForImageClassification",
    pixels(32),
    image_size=32,
    patch_size=4,
    embed_dim=8,
    depths=[1, 1],
    hidden_sizes=[8, 16],
    focal_levels=[1, 1],
    focal_windows=[3, 3],
)
hugging(
    "Hiera",
    "HieraForImageClassification",
    pixels(32),
    image_size=[32, 32],
    embed_dim=8,
    depths=[1, 1],
    num_heads=[1, 2],
    patch_size=[4, 4],
    patch_stride=[4, 4],
    patch_padding=[0, 0],
    masked_unit_size=[2, 2],
    query_stride=[2, 2],
    num_query_pool=1,
)
hugging(
    "Swin2SR",
    "Swin2SRForImageSuperResolution",
    pixels(16),
    "swin2sr.encoder",
    image_size=16,
    patch_size=1,
    embed_dim=8,
    depths=[1],
    num_heads=[2],
    window_size=4,
    upscale=2,
)
hugging("VideoMAE classifier", "VideoMAEForVideoClassification", _frames, **IMAGE, num_frames=4)
hugging("TimeSformer", "TimesformerForVideoClassification", _frames, **IMAGE, num_frames=4)
hugging(
    "ViViT",
    "VivitForVideoClassification",
    _frames,
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=24,
    image_size=16,
    num_frames=4,
    tubelet_size=[2, 8, 8],
)
hugging(
    "depth anything",
    "DepthAnythingForDepthEstimation",
    pixels(16),
    "neck head !neck.fusion_stage.layers.0.residual_layer1",
    backbone_config={
        "model_type": "dinov2",
        **IMAGE,
        "out_features": ["stage1"],
        "reshape_hidden_states": False,
    },
    reassemble_hidden_size=16,
    patch_size=8,
    reassemble_factors=[1],
    neck_hidden_sizes=[8],
    fusion_hidden_size=8,
    head_hidden_size=4,
)
