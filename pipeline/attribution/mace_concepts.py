"""What concepts are worth: how faithful they are, what they look like, what happens without them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from pipeline.attribution.cam_layers import upsample
from pipeline.attribution.mace_bridge import Bridge, batches, find_bridge
from pipeline.attribution.mace_state import Fidelity, MaceState
from pipeline.attribution.registry import number
from pipeline.errors import MethodError
from pipeline.models.graph import capture

if TYPE_CHECKING:
    from pipeline.models.graph import CapturedGraph

_Z = 1.959963984540054  # 97.5 % of the normal distribution


def bridge_of(graph: CapturedGraph, state: object) -> Bridge:
    """Return the bridge a state was trained on, in this model.

    Raises
    ------
    pipeline.errors.MethodError
        If there is no state, or it belongs to another model.
    """
    if not isinstance(state, MaceState):
        raise MethodError(
            "MACE explains with concepts learnt from a cohort",
            "give state=fit_mace(model, images), or the concepts.safetensors of an audit with mace",
        )
    state.check(graph)
    return find_bridge(graph, state.stage, exclusive=state.exclusive)


def same_decisions(
    bridge: Bridge, state: MaceState, activation: torch.Tensor, decisions: torch.Tensor
) -> torch.Tensor:
    """Whether the model made of concepts decides as the model does, bool (N,), for images' activations."""
    with torch.inference_mode(mode=False), torch.no_grad():
        vector = state.network_like(activation)(activation).vector
        return (bridge.decisions(bridge.rest(vector)) == decisions).all(1)


def fidelity_of(same: torch.Tensor, decisions: torch.Tensor) -> Fidelity:
    """Share of equal decisions (N,), its interval, and what a constant answer would reach."""
    n, share = len(same), float(same.double().mean())
    middle, half = (
        share + _Z**2 / (2 * n),
        _Z * (share * (1 - share) / n + _Z**2 / (4 * n**2)) ** 0.5,
    )
    low, high = ((middle + sign * half) / (1 + _Z**2 / n) for sign in (-1, 1))
    majority = int(torch.unique(decisions, dim=0, return_counts=True)[1].max()) / n
    return Fidelity(share, max(low, 0.0), min(high, 1.0), n, majority)


def fidelity(model: nn.Module, state: MaceState, images: torch.Tensor | Iterable[torch.Tensor]) -> Fidelity:
    """How often the model decides the same from concepts alone, on images it was not trained on.

    Parameters
    ----------
    model : torch.nn.Module
        The one `state` was trained for.
    images : torch.Tensor, shape (N, C, *spatial), or iterable of such batches
    """
    activations, decisions = [], []
    bridge: Bridge | None = None
    for batch in batches(model, images):
        bridge = bridge or bridge_of(capture(model, batch), state)
        activation, _, class_scores = bridge.look(batch)
        activations.append(activation)
        decisions.append(bridge.decisions(class_scores))
    if bridge is None:
        raise MethodError("there are no images to measure fidelity on", "give held-out images")
    activation, decided = torch.cat(activations), torch.cat(decisions)
    return fidelity_of(same_decisions(bridge, state, activation, decided), decided)


def concept_image(
    image: torch.Tensor, concept_map: torch.Tensor, *, quantile: float = 0.9, black: float = 0.0
) -> torch.Tensor:
    """Show a concept: the image where its map is high, everything else black.

    Parameters
    ----------
    image : torch.Tensor, shape (C, *spatial)
    concept_map : torch.Tensor, shape (*grid)
        Upsampled linearly to the image.
    quantile : float
        Share of the image that is blacked out (more where the map is 0).
    black : float
        What black is in the image's units.

    Returns
    -------
    torch.Tensor, shape (C, *spatial)
    """
    if image.ndim != concept_map.ndim + 1 or concept_map.ndim not in {2, 3}:
        raise MethodError(
            f"an image of shape {tuple(image.shape)} and a concept map of {tuple(concept_map.shape)}",
            "give (C, *spatial) and (*grid)",
        )
    seen = concept_mask(concept_map, tuple(image.shape[1:]), quantile=quantile).to(image.device)
    return torch.where(seen, image, torch.as_tensor(black).to(image))


def concept_mask(
    concept_map: torch.Tensor, spatial: tuple[int, ...], *, quantile: float = 0.9
) -> torch.Tensor:
    """Where a concept shows: bool (*spatial), the highest part of its map (*grid), upsampled linearly."""
    number("quantile", quantile, low=0, high=1)
    fine = upsample(concept_map[None, None], spatial)[0, 0]
    rank = min(int(quantile * fine.numel()), fine.numel() - 1)
    level = fine.flatten().sort().values[rank]
    return (fine >= level) & (fine > 0)


@dataclass(frozen=True, eq=False)
class ConceptView:
    """One concept of one class, seen in one image.

    Attributes
    ----------
    target : int
        Its class.
    concept : int
        Its number within the class.
    relevance : float
        Its term of the class's relevance logit.
    effect : float
        By how much the class score falls when it is taken away.
    image : torch.Tensor, shape (C, *spatial)
        Everything else blacked out.
    """

    target: int
    concept: int
    relevance: float
    effect: float
    image: torch.Tensor


def concept_views(
    model: nn.Module,
    state: MaceState,
    image: torch.Tensor,
    targets: Iterable[int],
    *,
    top: int = 3,
    quantile: float = 0.9,
    black: float = 0.0,
) -> dict[int, tuple[ConceptView, ...]]:
    """Show the most relevant concepts of some classes in one image, e.g. of predicted and true class.

    Parameters
    ----------
    image : torch.Tensor, shape (C, *spatial)
    targets : iterable of int
        `{predicted, true}`: for a wrong case both sides are shown from one pass.
    top : int
        Concepts a class, most relevant first.

    Returns
    -------
    dict of int to tuple of ConceptView
    """
    from pipeline.attribution.entrance import attribute

    wanted = list(dict.fromkeys(int(t) for t in targets))
    found = attribute(model, image[None], [wanted], "mace", state=state)
    relevance, effect = found.details["concept_relevance"], found.details["concept_effect"]
    return {
        target: tuple(
            ConceptView(
                target,
                int(j),
                float(relevance[i, j]),
                float(effect[i, j]),
                concept_image(image, found.details["concept_maps"][i, j], quantile=quantile, black=black),
            )
            for j in relevance[i].argsort(descending=True)[:top]
        )
        for i, target in enumerate(wanted)
    }


def concept_effects(
    bridge: Bridge, state: MaceState, activation: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """Fall of each image's class score when one concept of that class is set to zero, shape (N, concepts)."""
    network, rows = state.network_like(activation), torch.arange(len(activation))
    with torch.inference_mode(mode=False), torch.no_grad():
        before = bridge.rest(network(activation).vector)[rows, targets]
        effects = []
        for j in range(state.concepts):
            without = torch.zeros(len(rows), state.classes, state.concepts, dtype=torch.bool)
            without[rows, targets.cpu(), j] = True
            vector = network(activation, without.to(activation.device)).vector
            effects.append(before - bridge.rest(vector)[rows, targets])
    return torch.stack(effects, 1)


def top_and_other(
    bridge: Bridge, state: MaceState, activation: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Fall of each class score without its most relevant concept, and without another on average, (N,)."""
    with torch.inference_mode(mode=False), torch.no_grad():
        terms = state.network_like(activation)(activation).terms[torch.arange(len(targets)), targets]
    effects = concept_effects(bridge, state, activation, targets)
    top = effects.gather(1, terms.argmax(1, keepdim=True))[:, 0]
    return top, (effects.sum(1) - top) / (state.concepts - 1)


@dataclass(frozen=True)
class ConceptDeletion:
    """What the most relevant concept is worth, beside any other of its class.

    Attributes
    ----------
    top, other : float
        Mean fall of the class score without the most relevant concept, and without one of the others drawn
        at random (its expected value: the mean of them all).
    difference, low, high : float
        Mean of their difference, image by image, and its 95 % interval (Student).
    images : int
    """

    top: float
    other: float
    difference: float
    low: float
    high: float
    images: int


def concept_deletion(
    model: nn.Module, state: MaceState, images: torch.Tensor, targets: torch.Tensor | None = None
) -> ConceptDeletion:
    """Measure whether taking away the most relevant concept lowers its class score more than another does.

    Parameters
    ----------
    images : torch.Tensor, shape (N, C, *spatial)
        At least two, best ones the state was not trained on.
    targets : torch.Tensor of int, shape (N,), optional
        One class an image; by default the model's likeliest.
    """
    from scipy.stats import t

    if len(images) < 2 or state.concepts < 2:
        raise MethodError("an interval needs two images and two concepts", "give more images")
    tops: list[torch.Tensor] = []
    others: list[torch.Tensor] = []
    for batch in batches(model, images):
        bridge = bridge_of(capture(model, batch), state)
        activation, _, class_scores = bridge.look(batch)
        start = sum(map(len, tops))
        chosen = (
            class_scores.argmax(1)
            if targets is None
            else torch.as_tensor(targets).to(activation.device)[start : start + len(batch)]
        )
        top, other = top_and_other(bridge, state, activation, chosen)
        tops.append(top)
        others.append(other)
    top, other = torch.cat(tops).double(), torch.cat(others).double()
    difference = top - other
    n, mean = len(difference), float(difference.mean())
    half = float(t.ppf(0.975, n - 1)) * float(difference.std()) / n**0.5
    return ConceptDeletion(float(top.mean()), float(other.mean()), mean, mean - half, mean + half, n)
