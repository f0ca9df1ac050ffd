"""MACE: a decision as a sum of concepts learnt from a cohort.

>>> from pipeline.attribution.mace import fit_mace, load_mace                       # doctest: +SKIP
>>> state = fit_mace(model, cohort_images, seed=1, progress=True)                   # doctest: +SKIP
>>> state.fidelity.agreement, state.faithful                                        # doctest: +SKIP
>>> result = attribute(model, images, 1, "mace", state=state)                       # doctest: +SKIP
>>> result.details["concept_maps"], result.details["concept_relevance"]             # doctest: +SKIP
"""

from __future__ import annotations

from math import prod
from pathlib import Path

import torch

from pipeline.attribution.cam_layers import upsample
from pipeline.attribution.mace_concepts import (
    ConceptDeletion,
    ConceptView,
    bridge_of,
    concept_deletion,
    concept_effects,
    concept_image,
    concept_views,
    fidelity,
)
from pipeline.attribution.mace_network import Concepts
from pipeline.attribution.mace_state import FAITHFUL, Fidelity, MaceState, load_mace
from pipeline.attribution.mace_training import fit_mace
from pipeline.attribution.question import Answer, Question
from pipeline.attribution.registry import method

__all__ = [
    "FAITHFUL",
    "ConceptDeletion",
    "ConceptView",
    "Fidelity",
    "MaceState",
    "concept_deletion",
    "concept_image",
    "concept_views",
    "fidelity",
    "fit_mace",
    "load_mace",
    "mace",
]


@method(
    "mace",
    family="concepts",
    signed=True,
    class_discriminative=True,
    needs="a state trained on a cohort: state=fit_mace(model, images), or its file",
    cost="1 (and a training on the cohort's activations, once)",
    source="Kumar et al. 2020, arXiv:2011.01472",
    odd=False,
)
def mace(question: Question, *, state: MaceState | str | Path | None = None) -> Answer:
    """Σ_j t_j M_j / ΣM_j: each concept's term t_j of the class's relevance logit, laid out over its map M_j.

    The map sums to the relevance logit without its bias (exactly where the grid divides the image), a
    concept whose map is empty left out. Bilinear or trilinear upsampling, `align_corners=False`. `state` is
    what `fit_mace` gave, or a file of it: an audit with MACE leaves one in `concepts.safetensors`.

    `details` holds, for the target's concepts: `concept_maps` (N, concepts, *grid), `concept_relevance`
    (N, concepts), the terms t_j; `concept_effect` (N, concepts), by how much the class score falls without
    each; `agrees` (N,), whether the model made of concepts decides as the model does, `concept_scores`
    (N, classes), its scores; and `faithful` with `fidelity`, from held-out images: only a faithful state's
    concepts may be shown as the model's.
    """
    learnt = load_mace(state) if isinstance(state, str | Path) else state
    bridge = bridge_of(question.graph, learnt)
    assert isinstance(learnt, MaceState)

    def looked() -> tuple[torch.Tensor, Concepts, torch.Tensor]:
        kept = question.graph.run(question.images, keep=[bridge.layer.name])
        question.passed(kept[question.graph.output])
        found = learnt.network_like(kept[bridge.layer.name])(kept[bridge.layer.name])
        return kept[bridge.layer.name], found, bridge.rest(found.vector)

    with torch.inference_mode(mode=False), torch.no_grad():
        activation, found, concept_scores = question.once("mace", looked)
        targets = question.targets
        rows = torch.arange(len(targets), device=targets.device)
        maps, terms = found.maps[rows, targets], found.terms[rows, targets]
        total = maps.flatten(2).sum(2)
        share = torch.where(total > 0, terms / total, 0)
        coarse = torch.einsum("nj,nj...->n...", share, maps)[:, None]
        cells = prod(question.graph.spatial) / prod(bridge.layer.grid)
        decided = bridge.decisions(bridge.class_scores(question.logits))
        each = {
            "concept_maps": maps,
            "concept_relevance": terms,
            "concept_effect": concept_effects(bridge, learnt, activation, targets),
            "concept_scores": concept_scores,
            "agrees": (bridge.decisions(concept_scores) == decided).all(1),
        }
    details = {**bridge.layer.details(), "faithful": learnt.faithful, "fidelity": learnt.fidelity}
    values = upsample(coarse, question.graph.spatial) / cells
    return Answer(values, question.logits, details=details, each=each)
