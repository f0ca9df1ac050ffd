"""The vocabulary of operations: ATen's many names on one short list of kinds."""

from __future__ import annotations

_SPELLINGS: dict[str, tuple[str, ...]] = {
    "convolution": ("convolution", "_convolution"),
    "batch_norm": (
        "native_batch_norm",
        "_native_batch_norm_legit_no_training",
        "_native_batch_norm_legit",
        "_batch_norm_no_update",
        "_batch_norm_with_update",
        "cudnn_batch_norm",
        "miopen_batch_norm",
    ),
    "linear": ("linear", "addmm", "mm"),
    "matmul": ("bmm", "baddbmm", "matmul", "dot", "mv"),
    "max_pool": ("max_pool2d_with_indices", "max_pool3d_with_indices"),
    "adaptive_max_pool": ("adaptive_max_pool2d", "adaptive_max_pool3d"),
    "maximum": ("amax", "max"),
    "avg_pool": ("avg_pool1d", "avg_pool2d", "avg_pool3d"),
    "adaptive_avg_pool": ("_adaptive_avg_pool2d", "_adaptive_avg_pool3d"),
    "mean": ("mean",),
    "sum": ("sum",),
    "add": ("add",),
    "subtract": ("sub", "rsub"),
    "multiply": ("mul",),
    "divide": ("div",),
    "negate": ("neg",),
    "cat": ("cat",),
    "stack": ("stack",),
    "pad": ("constant_pad_nd",),
    "view": ("view", "_unsafe_view", "reshape", "_reshape_copy", "view_copy", "flatten"),
    "permute": ("permute", "t", "transpose", "permute_copy"),
    "slice": ("slice", "select", "narrow", "index_select", "split", "split_with_sizes", "chunk", "unbind"),
    "squeeze": ("squeeze", "unsqueeze"),
    "expand": ("expand", "repeat"),
    "flip": ("flip", "roll", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "native_channel_shuffle"),
    "edge_pad": (
        *(f"reflection_pad{d}d" for d in (1, 2, 3)),
        *(f"replication_pad{d}d" for d in (1, 2, 3)),
    ),
    "upsample_nearest": (
        *(f"upsample_nearest{d}d" for d in (1, 2, 3)),
        *(f"_upsample_nearest_exact{d}d" for d in (1, 2, 3)),
    ),
    "upsample": ("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d", "upsample_bicubic2d"),
    "clamp": ("clamp", "clamp_min", "clamp_max", "relu6", "threshold"),
    "softmax": ("_softmax", "softmax", "_safe_softmax"),
    "log_softmax": ("_log_softmax", "log_softmax"),
    "layer_norm": ("native_layer_norm", "layer_norm"),
    "group_norm": ("native_group_norm", "group_norm"),
    "identity": (
        "dropout",
        "native_dropout",
        "alpha_dropout",
        "feature_dropout",
        "alias",
        "detach",
        "detach_",
        "clone",
        "contiguous",
        "lift_fresh",
        "lift_fresh_copy",
    ),
    "cast": ("_to_copy", "to"),
}
_KIND_OF = {spelling: kind for kind, spellings in _SPELLINGS.items() for spelling in spellings}

RECTIFIERS = frozenset({"relu", "hardtanh", "clamp"})
"""Piecewise linear activations: the gradient is 0 or 1."""
SMOOTH = frozenset(
    {"silu", "gelu", "sigmoid", "hardsigmoid", "hardswish", "tanh", "softplus", "mish", "elu", "celu"}
    | {"leaky_relu", "_prelu_kernel", "prelu", "log_sigmoid_forward"}
)
"""Other activations, one number in, one number out."""
ACTIVATIONS = RECTIFIERS | SMOOTH
GATES = frozenset({"sigmoid", "hardsigmoid", "softmax"})
"""A branch ending in one of these gates the signal it is multiplied with."""
MOVEMENT = frozenset(
    {"view", "permute", "slice", "squeeze", "expand", "flip", "cat", "stack", "pad", "edge_pad"}
    | {"upsample_nearest", "identity", "cast"}
)
"""Operations that only move values: each result is a copy of one input value (or of a constant)."""
POOLING = frozenset(
    {"max_pool", "adaptive_max_pool", "maximum", "avg_pool", "adaptive_avg_pool", "mean", "sum"}
)


def kind_of(aten_name: str) -> str:
    """Kind of an ATen operation, its own name where the vocabulary has none."""
    return _KIND_OF.get(aten_name, aten_name)
