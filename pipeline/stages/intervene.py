"""What the decisions of a cohort rest on: which cases are paired, what is swapped, stamped and removed."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.cohort import Cohort
from pipeline.errors import AuditError
from pipeline.files import sha256_of
from pipeline.record.interventions import (
    CueRow,
    FactorRow,
    FillRow,
    Interventions,
    RemovalRow,
)
from pipeline.record.kept import keep, take_up
from pipeline.record.parts import figure_of
from pipeline.record.schema import CaseResult
from pipeline.stages.audit import Audit
from pipeline.stages.intervene_cases import Member, Score, choose_members, own_cue
from pipeline.stages.intervene_data import relate, warn

if TYPE_CHECKING:
    from pipeline.interventions import Pair, SwappedPair
    from pipeline.interventions.composition import Floats, Mask
    from pipeline.interventions.cues import Cue
    from pipeline.protocol import Protocol

STEPS = "interventions/5"
"""Raised when what is computed here changes, so that stored results are not taken for the new ones."""
PAIRS = 32
USUAL_BOUND = 0.30
REACHED = "rest"
"""The rest of a brain, which the disease reaches too: bounded by what is left for the expected regions."""
FILL_CASES = 6
MOVED = 0.8
"""Share of the marked pixels for which there has to be room elsewhere."""
LEFT_OUT = "left out of the factor swap: "
TITLES = {  # short: they stand at the axis of a chart
    "target": "expected regions",
    "rest": "rest of the brain",
    "rim": "rim (skull strip)",
    "outside": "outside the anatomy",
    "low_frequency": "low-frequency intensity",
    "noise": "noise and sharpness",
    "lesions": "lesions",
    "disc": "optic disc and macula",
    "vessels": "vessels",
    "background": "rest of the retina",
    "style": "light, colour, sharpness",
}
WANTED = {"mri": "target", "fundus": "lesions"}


def intervene(audit: Audit, cohort: Cohort, results: Sequence[CaseResult]) -> Interventions:
    """Swap factors, stamp cues, remove structures, and measure what the score does.

    Parameters
    ----------
    audit : Audit
    cohort : Cohort
    results : sequence of CaseResult
        Of every case that could be done.

    Returns
    -------
    Interventions
        Also written to `interventions.json`; read from there if nothing that they depend on has changed. What
        could not be done is a note, never an exception for bad data.
    """
    key = _key(audit, cohort, results)
    path = audit.folder / "interventions.json"
    kept = take_up(path, Interventions, key)
    if kept is not None:
        return kept
    begin = time.perf_counter()
    found = Interventions(key=key)
    members: list[Member] = []
    try:
        members = choose_members(audit, cohort, results, found.notes)
    except AuditError as error:
        found.notes.append(f"nothing was intervened upon: {error}")
    if members:
        score = Score(audit)
        steps = (warn, relate, _swap_factors, _try_cues, _remove, _cover)
        for step in steps:
            try:
                step(audit, members, score, found)
            except AuditError as error:
                found.notes.append(f"{step.__name__.strip('_').replace('_', ' ')}: {error}")
    found.seconds = round(time.perf_counter() - begin, 1)
    keep(path, found)
    return found


def _key(audit: Audit, cohort: Cohort, results: Sequence[CaseResult]) -> str:
    cues = [(cue.model_dump(exclude={"image"}), sha256_of(Path(cue.image))) for cue in audit.protocol.cues]
    bound = [share_bound(audit.protocol, name) for name in ("outside", "")]
    known = sorted(
        (case.case, sorted(case.covariates.items())) for case in cohort.cases
    )  # pairs match on them
    parts: list[object] = [STEPS, audit.settings_key, sorted(r.key for r in results), cues, bound, known]
    parts.append(audit.protocol.smallest_group)
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def share_bound(protocol: Protocol, factor: str) -> float:
    """Share above which a factor other than the disease is flagged: the protocol's, or the usual one."""
    kind = "outside_share" if factor == "outside" else "other_share"
    bounds = [c.at_most for c in protocol.criteria if c.name == kind and c.at_most is not None]
    return min(bounds, default=USUAL_BOUND)


def _pairs(audit: Audit, members: Sequence[Member], count: int) -> list[Pair]:
    from pipeline.interventions import matched_pairs

    pairs: list[Pair] = matched_pairs([m.subject for m in members], count, seed=audit.protocol.seed)
    return pairs


def swapped_pairs(
    audit: Audit, members: Sequence[Member], score: Score, found: Interventions, count: int = PAIRS
) -> tuple[tuple[str, ...], list[SwappedPair]]:
    """Score every combination of factors in each matched pair; also the names of the factors."""
    from pipeline.interventions import swap_pair
    from pipeline.stages.intervene_cases import composition_of

    usable = [m for m in members if m.why_not_swapped == ""]
    reasons = sorted({m.why_not_swapped for m in members} - {""})
    found.notes += [f"{LEFT_OUT}{reason}" for reason in reasons]
    names: tuple[str, ...] = ()
    swapped: list[SwappedPair] = []
    for pair in _pairs(audit, usable, count):
        one, two = usable[pair.positive], usable[pair.negative]
        composition = composition_of(audit, one, two)
        names = composition.names
        swapped.append(swap_pair(composition, score, one.subject.patient, two.subject.patient))
    return names, swapped


def share_out(
    audit: Audit, names: tuple[str, ...], swapped: Sequence[SwappedPair], found: Interventions
) -> None:
    """Share the gap between the classes out among the factors."""
    from pipeline.interventions import factor_swap

    if not swapped:
        found.notes.append("no factor was swapped: no pair of usable cases of opposite classes")
        return
    swap = factor_swap(names, swapped)
    found.gap, found.pairs = figure_of(swap.gap), len(swapped)
    wanted = WANTED[audit.protocol.modality]
    for name, share in zip(names, swap.shares, strict=True):
        limit = swap.detection_limit(name, share_bound(audit.protocol, name))
        found.factors.append(
            FactorRow(
                name=name,
                title=TITLES[name],
                wanted=name == wanted,
                share=figure_of(share),
                limit=None if name in (wanted, REACHED) or np.isnan(limit) else limit,
            )
        )


def _swap_factors(audit: Audit, members: Sequence[Member], score: Score, found: Interventions) -> None:
    share_out(audit, *swapped_pairs(audit, members, score, found), found)


def _try_cues(audit: Audit, members: Sequence[Member], score: Score, found: Interventions) -> None:
    """Stamp every cue of the battery, and those of the protocol, on the cases of either class."""
    try_cues(battery(audit, members), members, score, found)


def try_cues(cues: Sequence[Cue], members: Sequence[Member], score: Score, found: Interventions) -> None:
    """Put each cue on the cases of either class and add what the score does: of all cues, or of none."""
    from pipeline.interventions.cues import cue_result, within_class_spread

    positive = np.array([m.subject.positive for m in members])
    clean = np.array([m.clean for m in members])
    spread = within_class_spread(clean, positive)
    rows = []
    for cue in cues:
        changed = score.of([cue.apply(m.image, m.field) for m in members])
        for side in (True, False):
            chosen = [i for i, p in enumerate(positive) if p == side]
            if not chosen:
                continue
            patients = [members[i].subject.patient for i in chosen]
            row = cue_result(cue, clean[chosen], changed[chosen], patients, spread, positive=side)
            rows.append(
                CueRow(
                    name=row.name,
                    title=row.title,
                    stamped=cue.kind == "compact",
                    positive=side,
                    shift=figure_of(row.shift),
                    flips=figure_of(row.flips),
                )
            )
    found.cues += rows


def battery(audit: Audit, members: Sequence[Member]) -> tuple[Cue, ...]:
    """Return the cues that are tried without being asked, and those of the protocol."""
    sets = {m.field.shape: _cues_on(audit, m) for m in members}
    if len(sets) == 1:
        return sets[members[0].field.shape]
    # images as read may each have a grid of their own
    return tuple(
        replace(cue, apply=_on_its_grid([cues[k] for cues in sets.values()], list(sets)))
        for k, cue in enumerate(sets[members[0].field.shape])
    )


def _on_its_grid(cues: Sequence[Cue], shapes: Sequence[tuple[int, ...]]) -> Callable[[Floats, Mask], Floats]:
    """Make of one cue, as it is on several grids, one that takes images of any of them."""
    by_shape = dict(zip(shapes, cues, strict=True))

    def apply(image: Floats, field: Mask) -> Floats:
        return by_shape[field.shape].apply(image, field)

    return apply


def _cues_on(audit: Audit, member: Member) -> tuple[Cue, ...]:
    if audit.protocol.modality == "mri":
        from pipeline.interventions.brain_cues import brain_cues

        return brain_cues(member.spacing, member.axes)
    from pipeline.interventions.retina_cues import retina_cues

    preprocessing = audit.model.preprocessing
    return (
        *retina_cues(preprocessing.mean, preprocessing.std),
        *(own_cue(audit, cue, member.field.shape) for cue in audit.protocol.cues),
    )


def _remove(audit: Audit, members: Sequence[Member], score: Score, found: Interventions) -> None:
    """Fill the lesions of a photograph in, and the same shapes elsewhere."""
    from pipeline.comparison import mean_interval
    from pipeline.interventions.retina_factors import displaced_mask, without
    from pipeline.stages.intervene_cases import colours_of, normalised

    if audit.protocol.modality != "fundus":
        return
    chosen = [m for m in members if m.subject.positive and m.lesions is not None and m.lesions.any()]
    if not chosen:
        found.notes.append("no lesion was removed: no case of the audited class has expert marks")
        return
    usable, gone, moved = [], [], []
    for number, m in enumerate(chosen):
        assert m.lesions is not None
        colours = colours_of(audit, m.image)
        elsewhere = displaced_mask(m.lesions, m.field & ~m.lesions, seed=audit.protocol.seed + number)
        if elsewhere.sum() < MOVED * m.lesions.sum():
            continue  # a control that is hardly there would make any removal look like one of lesions
        usable.append(m)
        gone.append(normalised(audit, without(colours, m.lesions, m.field)))
        moved.append(normalised(audit, without(colours, elsewhere, m.field & ~m.lesions)))
    if len(usable) < len(chosen):
        found.notes.append(
            f"no lesion was removed from {len(chosen) - len(usable)} of {len(chosen)} cases: there is no "
            "room for the same shapes elsewhere"
        )
    if not usable:
        return
    clean = np.array([m.clean for m in usable])
    patients = [m.subject.patient for m in usable]
    removed, control = clean - score.of(gone), clean - score.of(moved)
    found.removals.append(
        RemovalRow(
            name="lesions",
            title="Lesions filled in from their surroundings",
            removed=figure_of(mean_interval(removed, patients)),
            control=figure_of(mean_interval(control, patients)),
            difference=figure_of(mean_interval(removed - control, patients)),
        )
    )


def _cover(audit: Audit, members: Sequence[Member], score: Score, found: Interventions) -> None:  # noqa: ARG001
    """Cover regions with every fill, a matched case of the other class among them."""
    from atlases import expected_regions
    from pipeline.comparison import mean_interval
    from pipeline.interventions.fill_bias import fill_scores, region_groups

    usable = [m for m in members if m.labels is not None and m.why_not_swapped == ""]
    if audit.atlas is None or not usable:
        return
    expected = expected_regions(audit.protocol.disease, audit.atlas.table)
    groups = region_groups(expected.tiers, expected.negative_controls)
    pairs = _pairs(audit, usable, FILL_CASES)
    if not pairs:
        found.notes.append("no region was covered: cases of one class only share a grid with the atlas")
        return
    for positive in (True, False):
        ends = [(p.positive, p.negative) if positive else (p.negative, p.positive) for p in pairs]
        own, donors = ([usable[i] for i in side] for side in zip(*dict(ends).items(), strict=True))
        falls = fill_scores(
            audit.model.module,
            np.stack([m.image for m in own]),
            np.stack([m.image for m in donors]),
            np.stack([m.labels for m in own if m.labels is not None]),
            groups,
            audit.target,
        )
        patients = [m.subject.patient for m in own]
        found.fills += [
            FillRow(
                fill=fill,
                region=region,
                role="expected" if groups[region][0] == "expected" else "control",
                positive=positive,
                fall=figure_of(mean_interval(values, patients)),
            )
            for (region, fill), values in falls.items()
        ]
