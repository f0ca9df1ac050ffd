"""Concepts of one audit: learnt once on its cohort, and the same when a run goes on."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import AuditError
from pipeline.files import sha256_of
from pipeline.images import read_photograph, read_volume
from pipeline.protocol import Method, Protocol
from pipeline.provenance import versions
from pipeline.record.concepts import ConceptLearning, ConceptRow
from pipeline.record.kept import Kept, keep, take_up
from pipeline.record.parts import figure_of

if TYPE_CHECKING:
    import torch

    from pipeline.attribution import Relevance
    from pipeline.attribution.mace import MaceState
    from pipeline.attribution.mace_training import Progress, SeenCohort
    from pipeline.stages.audit import Audit

MAKING = "concepts/1"
"""Raised when what is computed here changes, so that stored results are not taken for the new ones."""
SHOWN = 3
"""Concepts of a class that a case shows."""
HELD_OUT, RATE, BATCH = 0.3, 1e-3, 32
STEPS = 200
"""Of the optimiser, unless the protocol gives epochs: what training costs does not grow with the cohort."""


@dataclass(frozen=True, eq=False)
class ConceptSet:
    """What was learnt, and the state to explain with: None where concepts may not be shown."""

    learning: ConceptLearning
    state: MaceState | None = None


class _Kept(Kept):
    learning: ConceptLearning


def mace_of(protocol: Protocol) -> Method | None:
    """MACE as the protocol asks for it; None where it does not."""
    return next((method for method in protocol.methods if method.name == "mace"), None)


def concepts_of(audit: Audit, progress: Progress | bool = False) -> ConceptSet:
    """Learn concepts on the images of the cohort, or take up those of an earlier run into this folder.

    Every image is prepared and passed through the model once; whole patients are held out by the protocol's
    seed, and fidelity and the deletion of concepts are measured on them.

    Parameters
    ----------
    audit : Audit
        Its folder gets `concepts.safetensors` and `concepts.json`.
    progress : bool or callable
        See `pipeline.attribution.mace.fit_mace`.

    Returns
    -------
    ConceptSet
        Without a state where nothing could be learnt (its row says why) or what was learnt is not faithful.
    """
    from pipeline.attribution.mace import load_mace

    key, path = concepts_key(audit), audit.folder / "concepts.safetensors"
    kept = take_up(audit.folder / "concepts.json", _Kept, key)
    if kept is not None:
        usable = kept.learning.faithful and not kept.learning.refused
        try:
            return ConceptSet(kept.learning, load_mace(path) if usable else None)
        except AuditError:
            pass  # half made: they are learnt again
    begin = time.perf_counter()
    try:
        learning, state = _learn(audit, progress)
        audit.folder.mkdir(parents=True, exist_ok=True)
        state.save(path)
    except AuditError as error:
        learning, state = ConceptLearning(refused=str(error)), None
    learning.seconds = round(time.perf_counter() - begin, 1)
    keep(audit.folder / "concepts.json", _Kept(key=key, learning=learning))
    return ConceptSet(learning, state if learning.faithful else None)


def concepts_key(audit: Audit) -> str:
    """Hash of everything that concepts depend on: model, options, seed, versions, and every image."""
    method = mace_of(audit.protocol)
    card = audit.model.card.model_dump(mode="json") if audit.model.card else None
    images = [
        (case.case, case.patient, sha256_of(case.image) if case.image.is_file() else "")
        for case in audit.calibration
    ]
    options = method.options if method else {}
    parts = [MAKING, audit.model.sha256, card, options, audit.protocol.seed, versions(), images]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _learn(audit: Audit, progress: Progress | bool) -> tuple[ConceptLearning, MaceState]:
    from pipeline.attribution.mace_concepts import same_decisions, top_and_other
    from pipeline.attribution.mace_training import hold_out, learn_concepts
    from pipeline.comparison import mean_interval, rate_interval

    method = mace_of(audit.protocol)
    options: dict[str, Any] = dict(method.options) if method else {}
    share, seed = float(options.pop("held_out", HELD_OUT)), audit.protocol.seed
    seen, cases = _look(audit, int(options.get("stage", 0)))
    patients = [audit.calibration[i].patient for i in cases]
    names = [audit.calibration[i].case for i in cases]
    apart = hold_out(seen, share, seed, patients)
    per_epoch = ceil(int((~apart).sum()) / int(options.setdefault("batch_size", BATCH)))
    options.setdefault("epochs", ceil(STEPS / per_epoch))
    options.setdefault("learning_rate", RATE)
    state = learn_concepts(seen, apart, seed=seed, progress=progress, **options)
    unseen = seen[apart]
    owners = [p for p, out in zip(patients, apart.tolist(), strict=True) if out]
    same = same_decisions(seen.bridge, state, unseen.activation, unseen.decisions)
    likeliest = seen.bridge.rest(unseen.vector).argmax(1)
    top, other = (part.double().cpu().numpy() for part in top_and_other(
        seen.bridge, state, unseen.activation, likeliest
    ))  # fmt: skip
    assert state.fidelity is not None
    learning = ConceptLearning(
        faithful=state.faithful,
        fidelity=figure_of(rate_interval(same.double().cpu().numpy(), owners)),
        majority=state.fidelity.majority,
        deletion=figure_of(mean_interval(top - other, owners, seed=seed)),
        top=float(top.mean()),
        other=float(other.mean()),
        concepts=state.concepts,
        learnt_from=[n for n, out in zip(names, apart.tolist(), strict=True) if not out],
        held_out=[n for n, out in zip(names, apart.tolist(), strict=True) if out],
    )
    return learning, state


def _look(audit: Audit, stage: int) -> tuple[SeenCohort, list[int]]:
    """Pass the cohort through the model; images that cannot be read are listed where the case is audited."""
    from pipeline.attribution.mace_training import look_once

    used: list[int] = []

    def images() -> Iterator[torch.Tensor]:
        for index, case in enumerate(audit.calibration):
            try:
                read = read_volume if audit.protocol.modality == "mri" else read_photograph
                tensor = audit.model.prepare(read(case.image)).tensor
            except AuditError:
                continue
            used.append(index)
            yield tensor

    return look_once(audit.model.module, images(), stage=stage), used


def concept_rows(
    made: Relevance, index: int, shape: tuple[int, ...]
) -> tuple[list[ConceptRow], dict[str, npt.NDArray[np.bool_]]]:
    """Concepts of one map, most relevant first, and masks of the first few that show anywhere.

    Parameters
    ----------
    made : Relevance
        Of method `mace`.
    index : int
        Which map.
    shape : tuple of int
        Of the image.
    """
    from pipeline.attribution.mace_concepts import concept_mask

    details, target = made.details, made.target[index]
    relevance, effect = details["concept_relevance"][index], details["concept_effect"][index]
    rows: list[ConceptRow] = []
    masks: dict[str, npt.NDArray[np.bool_]] = {}
    for concept in relevance.argsort(descending=True).tolist():
        mask = concept_mask(details["concept_maps"][index, concept], shape).numpy()
        array = f"concept_{concept}_class-{target}" if len(masks) < SHOWN and mask.any() else ""
        if array:
            masks[array] = mask
        rows.append(
            ConceptRow(
                target=target,
                concept=concept,
                relevance=float(relevance[concept]),
                effect=float(effect[concept]),
                array=array,
                agrees=bool(details["agrees"][index]),
            )
        )
    return rows, masks
