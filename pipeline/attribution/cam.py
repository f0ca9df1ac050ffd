"""Class activation maps: a spatial activation, its channels weighted for a class.

All explain from one coarse grid (the last spatial activation, or a finer one with `stage`), and are brought
on the image's grid by bilinear or trilinear interpolation (`align_corners=False`: cells and pixels are
squares, their outer edges coincide). `details` holds the raw coarse map, the layer, its grid and stride.
Only what follows the activation is differentiated.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

import torch

from pipeline.attribution.cam_layers import (
    Layer,
    activation_and_gradient,
    only_way,
    refuse_single_cell,
    slopes_at,
    spatial_layer,
    upsample,
)
from pipeline.attribution.question import Answer, Question
from pipeline.attribution.registry import card_of, choice, method
from pipeline.errors import MethodError
from pipeline.models.graph.layout import fast_layout


@method(
    "cam",
    family="activation",
    signed=True,
    class_discriminative=True,
    needs="global average pooling that feeds one linear layer",
    cost="1",
    source="Zhou et al. 2016, arXiv:1512.04150",
)
def cam(question: Question) -> Answer:
    """Σ_k w_k^t A_k with w^t the target's row of the linear layer (of the logit; the bias has no place).

    The mean of the coarse map is the logit without its bias. With `output="probability"` the weights are
    those of the probability's gradient at this image.
    """
    marks = question.graph.landmarks
    if marks.classifier is None or marks.pooling is None or not only_way(question.graph, marks.pooling):
        raise MethodError(
            "CAM needs global average pooling that feeds one linear layer, which this model lacks",
            "use grad_cam",
        )
    layer = spatial_layer(question.graph)
    refuse_single_cell(layer)
    pooling = marks.pooling

    def maps_and_weights() -> tuple[torch.Tensor, list[torch.Tensor]]:
        with torch.inference_mode(mode=False), torch.no_grad():
            images = fast_layout(question.images)
            found = question.graph.run(images, keep=[layer.name, pooling], stop=True, fold=True)
            return found[layer.name], slopes_at(question, pooling, found[pooling])

    activation, weights = question.once("cam", maps_and_weights)
    return _answer(question, layer, _weighted(weights[question.round].flatten(1), activation))


@method(
    "grad_cam",
    family="activation",
    signed=True,
    class_discriminative=True,
    needs="a spatial activation larger than 1×1 before the classifier",
    cost="1 (and the backward of what follows the activation)",
    source="Selvaraju et al. 2017, arXiv:1610.02391",
)
def grad_cam(question: Question, *, relu: bool = False, stage: int = 0) -> Answer:
    """Σ_k α_k A_k with α_k the spatial mean of ∂y_t/∂A_k.

    Options: `relu` keeps the positive part only; `stage` = 1, 2 … takes the last activation on the next
    finer grids. On a network of pooling + linear layer it is CAM divided by the number of cells.
    """
    choice("relu", relu, (True, False))
    layer = _layer(question, stage)
    activation, slope = activation_and_gradient(question, layer)
    coarse = _weighted(slope.flatten(2).mean(2), activation)
    return _answer(question, layer, coarse, relu=relu)


@method(
    "grad_cam++",
    family="activation",
    signed=False,
    class_discriminative=True,
    needs="a spatial activation larger than 1×1 before the classifier",
    cost="1 (and the backward of what follows the activation)",
    source="Chattopadhyay et al. 2018, arXiv:1710.11063",
    odd=False,
)
def grad_cam_plus_plus(question: Question, *, relu: bool = False, stage: int = 0) -> Answer:
    """Σ_k w_k A_k with w_k = Σ_ij α_ij g⁺, g = ∂y_t/∂A_k, α_ij = g² / (2g² + Σ_ab A_k g³), 0/0 = 0.

    The score's exponential, a positive factor common to all pixels, is left out. Σ_ab runs over the positive
    part of A_k: the same on rectified activations, and never a division by nearly nothing on others.
    Evidence against the target does not show (all w_k ≥ 0). Options as for `grad_cam`.
    """
    choice("relu", relu, (True, False))
    layer = _layer(question, stage)
    activation, slope = activation_and_gradient(question, layer)
    rising, total = slope.flatten(2).clamp(min=0), activation.flatten(2).clamp(min=0).sum(2, keepdim=True)
    coarse = _weighted((rising / (2 + total * rising)).sum(2), activation)
    return _answer(question, layer, coarse, relu=relu)


@method(
    "guided_grad_cam",
    family="activation",
    signed=True,
    class_discriminative=True,
    needs="a spatial activation larger than 1×1 and rectifiers",
    cost="1 forward + that of guided_backprop",
    source="Selvaraju et al. 2017, arXiv:1610.02391",
    odd=False,
)
def guided_grad_cam(question: Question, *, stage: int = 0) -> Answer:
    """Upsampled ReLU(Grad-CAM) ⊙ guided backprop; `stage` as for `grad_cam`.

    Refused for images whose rectified Grad-CAM is zero: there is nothing in favour of that target to show.
    """
    coarse = grad_cam(question, relu=True, stage=stage)
    empty = [i for i, one in enumerate(coarse.values) if not bool(one.any())]
    if empty:
        which = ", ".join(f"{i} (target {int(question.targets[i])})" for i in empty)
        raise MethodError(
            f"the rectified Grad-CAM is zero for image {which}: nothing speaks for the target",
            "use signed grad_cam or another target",
        )
    guided: Answer = card_of("guided_backprop").compute(question)
    return replace(coarse, values=coarse.values * guided.values)


def _layer(question: Question, stage: int) -> Layer:
    layer = spatial_layer(question.graph, stage)
    refuse_single_cell(layer)
    return layer


def _weighted(weights: torch.Tensor, activation: torch.Tensor) -> torch.Tensor:
    """Sum of the channels, weights (N, K), as a map of one channel."""
    return torch.einsum("nk,nk...->n...", weights, activation)[:, None]


def _answer(question: Question, layer: Layer, coarse: torch.Tensor, *, relu: bool = False) -> Answer:
    shown = coarse.clamp(min=0) if relu else coarse
    return Answer(
        upsample(shown, question.graph.spatial),
        question.logits,
        details={**layer.details(), "cells": prod(layer.grid)},
        each={"coarse": coarse},
    )
