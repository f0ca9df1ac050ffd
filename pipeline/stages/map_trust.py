"""The maps of some cases, questioned: weights randomised, patches deleted, noise added, methods compared."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipeline.cohort import Case
from pipeline.errors import AuditError
from pipeline.protocol import Method
from pipeline.record.trust import Deletion, Likeness, MapTrust, RandomStep, Trust
from pipeline.stages.audit import Audit
from pipeline.stages.questioned import (
    Questioned,
    figure_of_patients,
    is_cheap,
    map_by,
    seed_for,
    take_up,
)
from pipeline.stages.twins import batched
from pipeline.trust.maps import Price, maps_of
from pipeline.trust.stability import DRAWS, NOISE

if TYPE_CHECKING:
    import torch
    from torch import nn

    from pipeline.trust.faithfulness import Curves
    from pipeline.trust.similarity import Similarity

Floats = npt.NDArray[np.float64]

RANDOM_MODELS = 2
"""Random models whose maps are compared in pairs, with each other and with those of the last step."""
PATCHES = 200
"""About so many patches cover the anatomy when it is deleted."""


def question_maps(audit: Audit, cases: Sequence[Case], found: Trust) -> None:
    """Randomise, delete, disturb and compare; what was found goes into `found`.

    Parameters
    ----------
    audit : Audit
    cases : sequence of Case
        One a patient.
    found : Trust
        Gets `maps`, `noise`, notes, and passes on top of what it has.
    """
    from pipeline.attribution import METHODS

    price = Price()
    wanted = [m for m in audit.protocol.methods if m.name != "mace"]
    asked = take_up(audit, cases, wanted, price)
    methods = [m for m in wanted if any(m.name in one.maps for one in asked)]
    if not methods:
        found.notes.append("trust of the maps: there is no map to be questioned")
        return
    cheap = [m for m in methods if is_cheap(m)]
    log = logging.getLogger(f"relevance_audit.{audit.folder.name}.trust")
    passes = expected_passes(len(asked), methods, cheap)
    log.info(
        "trust of the maps: about %d forward passes, some %.0f s",
        passes,
        passes * _seconds(audit, asked[0], price),
    )
    left_out = [METHODS[m.name].title for m in methods if m not in cheap]
    if left_out:
        found.notes.append(
            f"redrawn weights and noise: {', '.join(left_out)} left out, their maps take too many passes"
        )
    work = _Work(audit, asked, methods, cheap, price)
    steps: dict[str, Callable[[], None]] = {
        "randomised weights": work.randomise,
        "deletion": work.delete,
        "noise": work.disturb,
        "retrained models": work.retrained,
        "agreement of methods": work.agree,
    }
    for name, step in steps.items():
        try:
            step()
        except AuditError as error:
            found.notes.append(f"{name}: {error}")
    found.noise = NOISE
    found.maps += work.rows.values()
    found.passes += price.passes


def expected_passes(cases: int, methods: Sequence[Method], cheap: Sequence[Method]) -> int:
    """About how many forward passes `question_maps` will take (a backward pass counts as two)."""
    from pipeline.trust.faithfulness import RANDOM_ORDERS, STEPS
    from pipeline.trust.randomisation import STAGES

    maps = len(cheap) * 3 * (STAGES + RANDOM_MODELS + DRAWS)
    curves = 2 + (STEPS - 1) * (RANDOM_ORDERS + 2 * len(methods))
    return cases * (maps + curves + STAGES)


def _seconds(audit: Audit, one: Questioned, price: Price) -> float:
    """Wall time of a forward pass, the second: the first may have to capture the model."""
    from pipeline.attribution import logits

    begin = 0.0
    for _ in range(2):
        begin = time.perf_counter()
        logits(audit.model.module, one.prepared.tensor)
        price.passes += 1
    return time.perf_counter() - begin


class _Work:
    """All questions to the maps of the same cases."""

    def __init__(
        self,
        audit: Audit,
        asked: Sequence[Questioned],
        methods: Sequence[Method],
        cheap: Sequence[Method],
        price: Price,
    ) -> None:
        self.audit, self.asked, self.methods, self.cheap, self.price = audit, asked, methods, cheap, price
        self.rows = {m.name: MapTrust(method=m.name) for m in methods}

    def randomise(self) -> None:
        """Redraw weights from the output down and see what is left of each map."""
        from pipeline.trust.randomisation import cascade, left_over_steps

        if not self.cheap:
            return
        batches = batched([one.prepared.tensor for one in self.asked])
        tables: dict[str, list[list[Similarity]]] = {m.name: [] for m in self.cheap}
        stages, last = [], {}
        for stage, module in cascade(self.audit.model.module, batches, seed=seed_for(self.audit, "cascade")):
            stages.append(stage)
            self.price.passes += sum(len(batch) for batch in batches)
            for m in self.cheap:
                last[m.name] = self._maps(m, module)
                tables[m.name].append(self._with_trained(m, last[m.name]))
        bases = self._random_pairs(batches, last)
        for name, table in tables.items():
            row = self.rows[name]
            row.random_pairs = self._likeness(bases[name])
            row.steps = [
                RandomStep(layers=s.layers, of=s.of, lowest=s.lowest, likeness=self._likeness(alike))
                for s, alike in zip(stages, table, strict=True)
            ]
            ranks = np.array([[up_to_sign(s) for s in alike] for alike in table])
            left = left_over_steps(ranks, [up_to_sign(s) for s in bases[name]])
            row.left = figure_of_patients(left, self.asked)

    def delete(self) -> None:
        """Delete patches in the order of each map and watch the logit."""
        from pipeline.trust.faithfulness import Deleting

        curves: dict[str, dict[int, Curves]] = {m.name: {} for m in self.methods}
        for index, one in enumerate(self.asked):
            deleting = Deleting(
                self.audit.model.module,
                one.prepared.tensor,
                one.prepared.field,
                self.audit.target,
                patches=PATCHES,
                price=self.price,
                seed=seed_for(self.audit, f"deletion/{one.case.case}"),
            )
            for name, values in one.maps.items():
                curves[name][index] = deleting.curves(values)
        for name, made in curves.items():
            if made:
                self.rows[name].deletion = _deletion([self.asked[i] for i in made], list(made.values()))

    def disturb(self) -> None:
        """Add noise to the images and see how far each map moves."""
        from pipeline.trust.stability import noisy, stability

        for m in self.cheap:
            measured = []
            have = [one for one in self.asked if m.name in one.maps]
            for one in have:
                seed = seed_for(self.audit, f"noise/{one.case.case}")
                images = noisy(one.prepared.tensor, one.prepared.field, seed=seed)
                moved = maps_of(
                    self.audit.model.module, images, self.audit.target, m.name, m.options, self.price
                )
                measured.append(stability(one.maps[m.name], moved, one.prepared.field))
            self.rows[m.name].noise_change = figure_of_patients([s.largest for s in measured], have)
            self.rows[m.name].noise_rank = figure_of_patients([s.rank for s in measured], have)

    def retrained(self) -> None:
        """Compare with models that were trained again, where the model's card names any."""
        card = self.audit.model.card
        for name in (name for name in (card.twins if card else ()) if name.startswith("retrained")):
            module = self.audit.model.twin(name)
            for m in self.cheap:
                alike = self._with_trained(m, self._maps(m, module))
                self.rows[m.name].retrained[name] = figure_of_patients(
                    [s.rank_signed for s in alike], self.asked
                )

    def agree(self) -> None:
        """Compare every method with every other on the same images."""
        from pipeline.trust.similarity import rank_matrix

        names = list(self.rows)
        tables = np.full((len(self.asked), len(names), len(names)), np.nan)
        for index, one in enumerate(self.asked):
            have = [n for n, name in enumerate(names) if name in one.maps]
            matrix = rank_matrix([np.abs(one.maps[names[n]]) for n in have], one.prepared.field)
            tables[index][np.ix_(have, have)] = matrix
        for a, name in enumerate(names):
            self.rows[name].agreement = {
                other: figure_of_patients(tables[:, a, b], self.asked)
                for b, other in enumerate(names)
                if b != a
            }

    def _random_pairs(
        self, batches: Sequence[torch.Tensor], third: Mapping[str, list[Floats | None]]
    ) -> dict[str, list[Similarity]]:
        """Mean likeness of maps of pairs of random models, method by case: the audit's twins, or more.

        `third` are maps of one that is there anyway: the last step of the cascade.
        """
        from pipeline.comparison import random_twin

        model = self.audit.model.module
        modules = [m for name, m in self.audit.twins.modules.items() if name != "shuffled"][:RANDOM_MODELS]
        for number in range(len(modules), RANDOM_MODELS):
            modules.append(random_twin(model, batches, seed=seed_for(self.audit, f"random/{number}")))
            self.price.passes += sum(len(batch) for batch in batches)
        made = {m.name: [third[m.name], *(self._maps(m, module) for module in modules)] for m in self.cheap}
        return {
            name: [_mean_pair([maps[i] for maps in models], one) for i, one in enumerate(self.asked)]
            for name, models in made.items()
        }

    def _maps(self, method: Method, module: nn.Module) -> list[Floats | None]:
        """Map of every case by another model; None where the method refuses it."""
        made: list[Floats | None] = []
        for one in self.asked:
            try:
                made.append(map_by(self.audit, module, one.prepared, method, self.price))
            except AuditError:
                made.append(None)
        return made

    def _with_trained(self, method: Method, maps: Sequence[Floats | None]) -> list[Similarity]:
        """Likeness of every case's map to that of another model."""
        return [
            _alike(one.maps.get(method.name), other, one) for one, other in zip(self.asked, maps, strict=True)
        ]

    def _likeness(self, alike: Sequence[Similarity]) -> Likeness:
        return Likeness(
            rank=figure_of_patients([up_to_sign(s) for s in alike], self.asked),
            strength=figure_of_patients([s.rank_absolute for s in alike], self.asked),
            ssim=figure_of_patients([s.ssim for s in alike], self.asked),
        )


def up_to_sign(alike: Similarity) -> float:
    """Rank correlation of two maps, one of them turned over if that is more alike.

    A randomised model says yes or no by chance, and with it its map speaks for or against.
    """
    return abs(alike.rank_signed)


def _alike(a: Floats | None, b: Floats | None, one: Questioned) -> Similarity:
    from pipeline.trust.similarity import Similarity, similarity

    if a is None or b is None:
        return Similarity(float("nan"), float("nan"), float("nan"))
    return similarity(a, b, one.prepared.field)


def _mean_pair(maps: Sequence[Floats | None], one: Questioned) -> Similarity:
    """Mean over the pairs of maps that can be compared."""
    alike = [_alike(a, b, one) for n, a in enumerate(maps) for b in maps[:n]]
    kept = [s for s in alike if np.isfinite(s.rank_signed)] or alike
    return replace(
        kept[0],
        ssim=float(np.mean([s.ssim for s in kept])),
        rank_absolute=float(np.mean([s.rank_absolute for s in kept])),
        rank_signed=float(np.mean([up_to_sign(s) for s in kept])),
    )


def _deletion(asked: Sequence[Questioned], curves: Sequence[Curves]) -> Deletion:
    def changes(logits: Sequence[Floats]) -> list[float]:
        return [float(x) for x in np.mean([row - row[0] for row in logits], axis=0)]

    return Deletion(
        over_random=figure_of_patients([c.over_random for c in curves], asked),
        over_reverse=figure_of_patients([c.over_reverse for c in curves], asked),
        insertion=figure_of_patients([c.insertion_over_random for c in curves], asked),
        fractions=[float(x) for x in np.mean([c.fractions for c in curves], axis=0)],
        most_first=changes([c.most_first for c in curves]),
        least_first=changes([c.least_first for c in curves]),
        random=changes([c.random.mean(axis=0) for c in curves]),
    )
