"""Measure every attribution method on the audited model: detail, classes, concentration, stability, cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipeline.cohort import Case
from pipeline.errors import AuditError
from pipeline.record.method_card import CardRow, MethodCards
from pipeline.record.schema import write_arrays
from pipeline.record.trust import Trust
from pipeline.stages.audit import Audit
from pipeline.stages.card_cases import CardCase, card_case, card_picture
from pipeline.stages.measuring import one_channel
from pipeline.trust.classes import distinction
from pipeline.trust.concentration import gini, regions_to_share, relevance_in_regions
from pipeline.trust.cost import operations, timed
from pipeline.trust.resolution import autocorrelation_width
from pipeline.trust.similarity import rank_correlation, similarity
from pipeline.trust.stability import NOISE

if TYPE_CHECKING:
    import torch

    from pipeline.attribution import Relevance
    from pipeline.attribution.registry import MethodCard

Floats = npt.NDArray[np.float32]
CASES = 2
COSTLY, DEAREST = 10.0, 50.0
"""Forward passes a map from which a method is measured on one case only, and without noise and colours."""
FORWARD = 3
"""Forward passes that are timed."""
PICTURE = "method_card.npz"
COUNTS = ("regions", "regions_even", "regions_present")


@dataclass(frozen=True)
class Planned:
    """What will be asked of one method.

    Attributes
    ----------
    card : pipeline.attribution.MethodCard
    options : mapping
    refused : str
        Why nothing.
    passes : float
        Forward passes that a map is expected to take.
    cases : int
        How many it is measured on.
    copies : bool
        Whether noise and exchanged colours are tried.
    """

    card: MethodCard
    options: Mapping[str, Any] = field(default_factory=dict)
    refused: str = ""
    passes: float = 0.0
    cases: int = 0
    copies: bool = False


class CardPlan:
    """Which methods are measured on which cases, and what that takes.

    Methods that cost 10 forward passes a map or more are measured on the first case only, those that cost 50
    without noise and exchanged colours.

    Parameters
    ----------
    audit : Audit
    cases : sequence of Case
        The first two are measured. They are read; nothing is measured yet.

    Raises
    ------
    AuditError
        If a case cannot be read.
    """

    def __init__(self, audit: Audit, cases: Sequence[Case]) -> None:
        from pipeline.attribution import METHODS

        self.audit = audit
        self.cases = [card_case(audit, case) for case in cases[:CASES]]
        self.methods = [self._planned(card) for card in METHODS.values()] if self.cases else []

    def _planned(self, card: MethodCard) -> Planned:
        from pipeline.attribution.forecast import expected_passes

        first = self.cases[0]
        try:
            options = _options(self.audit, card.name, first)
        except AuditError as error:
            return Planned(card, refused=str(error))
        labels = first.label_tensor if card.name == "region_occlusion" else None
        passes = expected_passes(self.audit.model.module, first.image, card.name, options, labels)
        cases = 1 if passes >= COSTLY else len(self.cases)
        return Planned(card, options, "", passes, cases, copies=passes < DEAREST)

    def expected_passes(self) -> int:
        """About how many forward passes all measurements take."""
        total = (FORWARD + 2.0 + len(self.cases) + len(self._exchanged())) if self.cases else 0.0
        for one in self.methods:
            for case in self.cases[: one.cases]:
                copies = 1 + (case.exchanged is not None) if one.copies else 0
                total += one.passes * (2 + copies)
        return round(total)

    def measure(self, found: Trust) -> None:
        """Measure every method of the package.

        Parameters
        ----------
        found : Trust
            Gets the card, and the forward passes that it took are added. The audit's folder gets
            `method_card.npz`: the maps of the first case, for the report.
        """
        from pipeline.attribution import logits

        if not self.cases:
            return
        module, image = self.audit.model.module, self.cases[0].image
        logits(module, image)  # the first call captures the graph
        forward = [timed(lambda: logits(module, image))[1] for _ in range(FORWARD)]
        _, unit = operations(lambda: logits(module, image))
        rows: list[CardRow] = []
        maps: dict[str, Floats] = {}
        spent = 0.0
        for one in self.methods:
            row = CardRow(method=one.card.name, family=one.card.family, needs=one.card.needs)
            row.refused = one.refused
            rows.append(row)
            if one.refused:
                continue
            try:
                asked = Asked(self.audit, one.card, one.options, unit)
                maps[row.method] = _measure(asked, self.cases[: one.cases], row, copies=one.copies)
            except AuditError as error:
                row.refused = str(error)
                continue
            spent += asked.passes * asked.maps
        exchanged = self._exchanged()
        found.card = MethodCards(
            rows=rows,
            cases=[case.name for case in self.cases],
            unit="mm" if self.audit.protocol.modality == "mri" else "native pixels",
            grid=list(self.cases[0].field.shape),
            forward_seconds=float(np.median(forward)),
            noise=NOISE,
            logits=[_logit(self.audit, case.image) for case in self.cases],
            logits_exchanged=[_logit(self.audit, image) for image in exchanged],
        )
        found.passes += round(spent) + len(forward) + 2 + len(self.cases) + len(exchanged)
        write_arrays(self.audit.folder / PICTURE, card_picture(self.audit, self.cases[0], maps))

    def _exchanged(self) -> list[torch.Tensor]:
        return [case.exchanged for case in self.cases if case.exchanged is not None]


class Asked:
    """One method, asked again and again: what its maps cost is kept.

    Attributes
    ----------
    passes : float
        Arithmetic of its first map over that of a forward pass.
    seconds : list of float
        Wall time of every further map; of the first too if it stays the only one.
    maps : int
    """

    def __init__(self, audit: Audit, card: MethodCard, options: Mapping[str, Any], unit: int) -> None:
        self.audit, self.card, self._options, self._unit = audit, card, dict(options), unit
        self.passes, self.maps = 0.0, 0
        self.seconds: list[float] = []
        self._first = 0.0

    def __call__(self, case: CardCase, image: torch.Tensor, target: int) -> Relevance:
        """Make a map; AuditError if it is refused."""
        from pipeline.attribution import attribute

        labels = case.label_tensor if self.card.name == "region_occlusion" else None

        def explain() -> Relevance:
            return attribute(
                self.audit.model.module, image, target, self.card.name, regions=labels, **self._options
            )

        if not self.maps:
            (made, count), self._first = timed(lambda: operations(explain))
            self.passes = count / self._unit
        else:
            made, seconds = timed(explain)
            self.seconds.append(seconds)
        self.maps += 1
        return made

    def values(self, made: Relevance) -> Floats:
        """One channel of a map, as it is drawn."""
        return one_channel(made, 0, signed=self.card.signed)

    def again(self, case: CardCase, image: torch.Tensor | None, target: int) -> Floats | None:
        """Make a map to compare with; None where it is refused or there is no such image."""
        try:
            return None if image is None else self.values(self(case, image, target))
        except AuditError:
            return None

    @property
    def time(self) -> float:
        """Median wall time of a map, seconds."""
        return float(np.median(self.seconds or [self._first]))


def _measure(asked: Asked, cases: Sequence[CardCase], row: CardRow, *, copies: bool) -> Floats:
    """Measure one method into its row; give back its map of the first case."""
    numbers: list[dict[str, float]] = []
    first: Floats | None = None
    for case in cases:
        values, measured = _measure_case(asked, case, copies=copies)
        first = values if first is None else first
        numbers.append(measured)
    assert first is not None
    row.cases, row.passes, row.seconds = len(numbers), asked.passes, asked.time
    for name in dict.fromkeys(name for measured in numbers for name in measured):
        known = [n[name] for n in numbers if np.isfinite(n.get(name, np.nan))]
        if known:
            value = float(np.median(known))
            setattr(row, name, round(value) if name in COUNTS else value)
    row.distinction = distinction(row.class_signed, row.class_strength)
    return first


def _measure_case(asked: Asked, case: CardCase, *, copies: bool) -> tuple[Floats, dict[str, float]]:
    """Every number of one method on one case; NaN where it cannot be had."""
    target = asked.audit.target
    made = asked(case, case.image, target)
    values = asked.values(made)
    width = autocorrelation_width(values, case.field, case.spacing)
    numbers = {"width_pixels": width.pixels, "width": width.size, "gini": gini(values, case.field)}
    other = asked.again(case, case.image, case.other)
    if other is not None:
        alike = similarity(values, other, case.field)
        numbers["class_signed"] = alike.rank_signed
        numbers["class_strength"] = alike.rank_absolute
        numbers["class_ssim"] = alike.ssim
    for name, image in (("noise", case.noisy), ("colour", case.exchanged)) if copies else ():
        moved = asked.again(case, image, target)
        if moved is not None:
            numbers[name] = rank_correlation(values, moved, case.field)
    if case.labels is not None:
        relevance, volume = relevance_in_regions(values, case.labels)
        if made.region_scores is not None:  # region occlusion: a region's score is spread over all its pixels
            scores = made.region_scores[0].double().tolist()
            relevance = dict(zip(made.region_labels, scores, strict=True))
        count = regions_to_share(relevance, volume)
        numbers["regions"], numbers["regions_even"] = count.needed, count.even
        numbers["regions_present"] = count.present
    return values, numbers


def _options(audit: Audit, name: str, case: CardCase) -> dict[str, Any]:
    """Options of a method as the protocol has them, else its own; refuse what this audit cannot give."""
    from pipeline.stages.concepts import mace_of

    if name == "region_occlusion" and case.labels is None:
        raise AuditError(f"no regions: {case.no_regions}")
    if name == "mace":
        if mace_of(audit.protocol) is None:
            raise AuditError("no concepts were learnt: the protocol does not ask for them")
        if audit.concepts.state is None:
            raise AuditError("no concepts were learnt that may be shown")
        return {"state": audit.concepts.state}
    return next((dict(m.options) for m in audit.protocol.methods if m.name == name), {})


def _logit(audit: Audit, image: torch.Tensor) -> float:
    from pipeline.attribution import logits

    return float(logits(audit.model.module, image)[0, audit.target])
