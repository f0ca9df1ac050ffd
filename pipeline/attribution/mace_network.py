"""The concept network of MACE: an activation in; concept maps, their relevance, another activation out.

Kumar et al. 2020, arXiv:2011.01472.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import prod

import torch
from torch import nn
from torch.nn import functional

WIDTHS = (128, 64, 32)
"""Layers of an embedding; the last is its length."""


@dataclass(frozen=True, eq=False)
class Concepts:
    """What the concept network says of a batch.

    Attributes
    ----------
    maps : torch.Tensor, shape (N, classes, concepts, *grid)
        Concept maps, at least 0.
    embeddings : torch.Tensor, shape (N, classes, concepts, 32)
        Of unit length.
    terms : torch.Tensor, shape (N, classes, concepts)
        Each concept's term w·e of its class's relevance logit.
    relevance : torch.Tensor, shape (N, classes)
        Relevance logit: the sum of the terms and a bias.
    vector : torch.Tensor, shape (N, width)
        What takes the place of the model's own activation.
    """

    maps: torch.Tensor
    embeddings: torch.Tensor
    terms: torch.Tensor
    relevance: torch.Tensor
    vector: torch.Tensor


class ConceptNetwork(nn.Module):
    """Concept maps, embeddings, relevance and output of MACE, for maps of two or three dimensions.

    Parameters
    ----------
    channels : int
        Of the activation it reads.
    grid : tuple of int
        Spatial shape of that activation.
    classes, concepts : int
        There are `concepts` concept maps for each class.
    width : int
        Numbers in the activation it reproduces.

    Notes
    -----
    Inputs are divided by their channels' root mean square and outputs multiplied by their standard deviation
    over the cohort (buffers): the same family of functions, but one learning rate fits every model.
    """

    scale: torch.Tensor
    centre: torch.Tensor
    spread: torch.Tensor

    def __init__(self, channels: int, grid: tuple[int, ...], classes: int, concepts: int, width: int) -> None:
        super().__init__()
        self.grid, self.classes, self.concepts = grid, classes, concepts
        self.map_weight = _uniform((classes * concepts, channels), channels)
        self.map_bias = _uniform((classes * concepts,), channels)
        sizes = (prod(grid), *WIDTHS)
        pairs = list(pairwise(sizes))
        self.embed_weight = nn.ParameterList([_uniform((classes, a, b), a) for a, b in pairs])
        self.embed_bias = nn.ParameterList([_uniform((classes, 1, b), a) for a, b in pairs])
        self.relevance_weight = _uniform((classes, concepts, WIDTHS[-1]), concepts * WIDTHS[-1])
        self.relevance_bias = nn.Parameter(torch.zeros(classes))
        self.output = nn.Linear(classes * concepts * WIDTHS[-1], width)
        self.register_buffer("scale", torch.ones(channels))
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("spread", torch.ones(width))

    def forward(self, activation: torch.Tensor, without: torch.Tensor | None = None) -> Concepts:
        """Concepts of an activation.

        Parameters
        ----------
        activation : torch.Tensor, shape (N, channels, *grid)
        without : torch.Tensor of bool, shape (N, classes, concepts), optional
            Concepts whose embedding is set to zero.
        """
        cells = (activation / self.scale.view(-1, *[1] * len(self.grid))).flatten(2)
        maps = functional.relu(torch.einsum("kc,ncp->nkp", self.map_weight, cells) + self.map_bias[:, None])
        maps = maps.reshape(len(cells), self.classes, self.concepts, -1)
        hidden = maps.transpose(0, 1).flatten(1, 2)  # (classes, N·concepts, cells)
        for weight, bias in zip(self.embed_weight, self.embed_bias, strict=True):
            hidden = torch.tanh(torch.baddbmm(bias, hidden, weight))
        embeddings = functional.normalize(hidden, dim=-1)
        embeddings = embeddings.reshape(self.classes, len(cells), self.concepts, -1).transpose(0, 1)
        if without is not None:
            embeddings = embeddings.masked_fill(without[..., None], 0)
        terms = (self.relevance_weight * embeddings).sum(-1)
        relevance = terms.sum(-1) + self.relevance_bias
        weighted = torch.sigmoid(relevance)[..., None, None] * embeddings
        vector = self.centre + self.spread * self.output(weighted.flatten(1))
        return Concepts(maps.reshape(*maps.shape[:3], *self.grid), embeddings, terms, relevance, vector)


def _uniform(shape: tuple[int, ...], fan_in: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(shape).uniform_(-1, 1) / fan_in**0.5)


def semi_hard_triplets(embeddings: torch.Tensor, labels: torch.Tensor, margin: float = 1.0) -> torch.Tensor:
    """Mean triplet loss on squared distances, with semi-hard negatives (Schroff et al. 2015).

    Parameters
    ----------
    embeddings : torch.Tensor, shape (n, length)
        Of unit length.
    labels : torch.Tensor of int, shape (n,)
        Embeddings of one label shall lie together.

    Returns
    -------
    torch.Tensor
        Mean over all pairs (anchor, positive) of max(0, d_ap − d_an + margin), where the negative is the
        nearest one that is farther than the positive, or the farthest if none is; 0 if there is no pair.
    """
    distance = (2 - 2 * embeddings @ embeddings.T).clamp(min=0)
    same = labels[:, None] == labels
    anchor, positive = torch.nonzero(same & ~torch.eye(len(labels), dtype=torch.bool), as_tuple=True)
    if len(anchor) == 0 or bool(same.all()):
        return embeddings.sum() * 0
    pulled = distance[anchor, positive]
    others, rivals = distance[anchor], ~same[anchor]
    farther = rivals & (others > pulled[:, None])
    nearest = others.masked_fill(~farther, torch.inf).amin(1)
    farthest = others.masked_fill(~rivals, -torch.inf).amax(1)
    negative = torch.where(farther.any(1), nearest, farthest)
    return (pulled - negative + margin).clamp(min=0).mean()
