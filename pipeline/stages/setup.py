"""From a protocol to an audit that can run: everything that could be refused is refused here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pipeline.cohort import Case, Cohort, Problem, check_case, read_cohort
from pipeline.errors import AuditError, ProtocolError
from pipeline.images import read_patch, read_photograph, read_volume
from pipeline.models.opening import OpenedModel, open_model
from pipeline.protocol import Protocol
from pipeline.stages.audit import Audit
from pipeline.stages.average_marks import AVERAGE
from pipeline.verdict import check_criteria

if TYPE_CHECKING:
    from atlases import Atlas

T = TypeVar("T")
NULLS = ("centre", "random", "sobel", "contrast", "average")


def set_up(protocol: Protocol, folder: Path) -> tuple[Audit, Cohort]:
    """Open model, cohort and atlas of a protocol and hold them against each other.

    Parameters
    ----------
    protocol : Protocol
    folder : Path
        The audit directory; nothing is written yet.

    Returns
    -------
    tuple of Audit and Cohort

    Raises
    ------
    pipeline.errors.AuditError
        One line with everything that the protocol asks and that cannot be done.
    """
    mistakes: list[str] = []
    _gather(mistakes, lambda: _check_names(protocol))
    _gather(
        mistakes,
        lambda: check_criteria(protocol.criteria, protocol.modality, [m.name for m in protocol.methods]),
    )
    atlas = _gather(mistakes, lambda: _atlas(protocol))
    model = _gather(mistakes, lambda: _model(protocol))
    cohort = _gather(mistakes, lambda: read_cohort(protocol.cohort))
    if cohort is not None:
        _gather(mistakes, lambda: _check_regions(protocol, cohort))
    if mistakes or model is None or cohort is None:
        raise ProtocolError("; ".join(mistakes), "mend the protocol")
    classes = model.card.classes if model.card else _classes_of(model, cohort, protocol)
    target = _target(protocol, classes)
    return Audit(protocol, model, classes, target, atlas, folder, calibration=cohort.cases), cohort


def check_cases(audit: Audit, cohort: Cohort) -> list[Problem]:
    """Open every file of every case; return all problems at once."""
    problems = []
    for case in cohort.cases:
        found = check_case(case, audit.protocol.modality, audit.classes)
        problems += found or _segmentation_of_another(case)
    return problems


def _segmentation_of_another(case: Case) -> list[Problem]:
    """Hold a patient's own segmentation against the image."""
    if case.regions is None:
        return []
    from atlases import read_segmentation
    from pipeline.anatomy.brain import regions_from

    try:
        regions = regions_from(read_volume(case.image), read_segmentation(case.regions, case.regions_table))
    except AuditError as error:
        return [Problem(case.case, case.regions.name, str(error))]
    remedy = "name this patient's, in the space of this image"
    return (
        [] if regions.registered else [Problem(case.case, case.regions.name, f"{regions.reason}; {remedy}")]
    )


def _gather(mistakes: list[str], step: Callable[[], T]) -> T | None:
    try:
        return step()
    except AuditError as error:
        mistakes.append(str(error))
        return None


def _check_names(protocol: Protocol) -> None:
    from pipeline.attribution import METHODS, check_options

    mistakes = []
    for method in protocol.methods:
        if method.name not in METHODS:
            mistakes.append(f"unknown method {method.name!r} (known: {', '.join(METHODS)})")
            continue
        try:
            if method.name == "mace":
                from pipeline.attribution.mace_training import check_training

                check_training(method.options)
            else:
                check_options(METHODS[method.name], method.options)
        except AuditError as error:
            mistakes.append(str(error))
    mistakes += _check_twins(protocol)
    mistakes += _check_trust(protocol)
    mistakes += _unreadable_cues(protocol)
    mistakes += [
        f"unknown null map {name!r} (known: {', '.join(NULLS)})"
        for name in protocol.nulls
        if name not in NULLS
    ]
    if not set(protocol.nulls) - {AVERAGE}:  # which knows the experts, and is not judged
        mistakes += [
            "criterion 'lift_over_nulls' needs a null map that knows no expert"
            for c in protocol.criteria
            if c.name == "lift_over_nulls"
        ]
    if mistakes:
        raise ProtocolError("; ".join(mistakes))


def _check_regions(protocol: Protocol, cohort: Cohort) -> None:
    """Refuse a method of regions where nothing gives any."""
    if protocol.atlas is not None or any(case.regions for case in cohort.cases):
        return
    if any(method.name == "region_occlusion" for method in protocol.methods):
        raise ProtocolError(
            "region_occlusion needs regions", "name an atlas (photographs: ETDRS), or give the cohort regions"
        )


def _unreadable_cues(protocol: Protocol) -> list[str]:
    if protocol.cues and protocol.modality != "fundus":
        return ["cues are patches of photographs: leave them out for MRI"]
    from pipeline.interventions.retina_cues import retina_cues

    taken = {cue.name for cue in retina_cues((0.0,) * 3, (1.0,) * 3)}
    mistakes = [
        f"cue {cue.name}: the standard battery has one of this name, give it another"
        for cue in protocol.cues
        if cue.name in taken
    ]
    for cue in protocol.cues:
        try:
            read_patch(Path(cue.image))
        except AuditError as error:
            mistakes.append(f"cue {cue.name}: {error}")
    return mistakes


def _check_twins(protocol: Protocol) -> list[str]:
    from pipeline.attribution import METHODS
    from pipeline.stages.twins import twin_methods

    names = [m.name for m in protocol.methods]
    mistakes = [
        f"twins: {name!r} is none of the protocol's methods"
        for name in protocol.twins.methods or ()
        if name not in names
    ]
    if "mace" in (protocol.twins.methods or ()):
        mistakes.append("twins: the concepts of mace belong to one model, a twin has none")
    if not mistakes and all(name in METHODS for name in names):
        some = protocol.twins.random > 0 or protocol.twins.shuffled_labels
        with_twins = [m.name for m in twin_methods(protocol)] if some else []
        mistakes += [
            f"criterion 'lift_over_twins' needs twins of {c.method}"
            for c in protocol.criteria
            if c.name == "lift_over_twins" and c.method in names and c.method not in with_twins
        ]
    return mistakes


def _check_trust(protocol: Protocol) -> list[str]:
    """Refuse criteria of trust that too few cases are questioned for."""
    from pipeline.attribution import METHODS
    from pipeline.comparison.statistics import FEWEST_PATIENTS
    from pipeline.stages.questioned import is_cheap

    asked = [c for c in protocol.criteria if c.name in ("randomisation", "deletion")]
    mistakes = []
    if asked and protocol.trust.cases < FEWEST_PATIENTS:
        mistakes.append(f"criterion {asked[0].name!r} needs trust: {{cases: {FEWEST_PATIENTS}}} or more")
    costly = [m.name for m in protocol.methods if m.name in METHODS and not is_cheap(m)]
    mistakes += [
        f"criterion 'randomisation' cannot be measured for {c.method}: its maps take too many passes"
        for c in asked
        if c.name == "randomisation" and c.method in costly
    ]
    return mistakes


def _atlas(protocol: Protocol) -> Atlas | None:
    if protocol.atlas is None:
        return None
    if protocol.modality != "mri":
        _check_retinal_fields(protocol)
        return None
    from atlases import expected_regions, load_atlas

    atlas = load_atlas(protocol.atlas, use=protocol.use)
    expected_regions(protocol.disease, atlas.table)
    return atlas


def _check_retinal_fields(protocol: Protocol) -> None:
    """Photographs have one atlas, made from the landmarks of each: the ETDRS fields."""
    if protocol.atlas != "ETDRS":
        raise ProtocolError("photographs have the fields of ETDRS only", "write atlas: ETDRS or leave it out")
    from atlases import expected_regions
    from pipeline.anatomy.retina_regions import ETDRS_TABLE

    expected_regions(protocol.disease, ETDRS_TABLE)


def _model(protocol: Protocol) -> OpenedModel:
    model = open_model(protocol.model)
    if model.card and model.card.modality != protocol.modality:
        raise ProtocolError(f"the model takes {model.card.modality}, the protocol says {protocol.modality}")
    return model


def _classes_of(model: OpenedModel, cohort: Cohort, protocol: Protocol) -> tuple[str, ...]:
    """Count the classes of a model without a card on the first image that it takes."""
    from pipeline.attribution import logits

    reason = "no image could be read"
    for case in cohort.cases:
        try:
            image = read_volume(case.image) if protocol.modality == "mri" else read_photograph(case.image)
            return tuple(
                f"class {i}" for i in range(logits(model.module, model.prepare(image).tensor).shape[1])
            )
        except AuditError as error:
            reason = str(error)
    raise ProtocolError(
        f"the model without a card takes none of the images: {reason}", "give it a bundle with a card"
    )


def _target(protocol: Protocol, classes: tuple[str, ...]) -> int:
    probe = Case("target", "target", Path(), str(protocol.target))
    try:
        index = probe.class_index(classes)
    except AuditError as error:
        known = ", ".join(f"{i} ({name})" for i, name in enumerate(classes))
        raise ProtocolError(
            f"target {protocol.target!r} is not a class of the model", f"use one of {known}"
        ) from error
    assert index is not None
    return index
