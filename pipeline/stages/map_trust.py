"""The maps of some cases, questioned: weights randomised, patches deleted, noise added, methods compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipeline.cohort import Case
from pipeline.errors import AuditError
from pipeline.protocol import Method
from pipeline.record.parts import figure_of
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
    from torch import nn

    from pipeline.trust.faithfulness import Curves
    from pipeline.trust.randomisation import Stage
    from pipeline.trust.similarity import Ranked, Similarity

Floats = npt.NDArray[np.float64]

PATCHES = 200
"""About so many patches cover the anatomy when it is deleted."""
KINDS = ("rank", "strength", "ssim")


class Questions:
    """All questions to the maps of some cases.

    Parameters
    ----------
    audit : Audit
    cases : sequence of Case
        One a patient. They are read, and their maps taken up; nothing is asked yet.

    Raises
    ------
    AuditError
        If a case cannot be read, or there is no map to be questioned.
    """

    def __init__(self, audit: Audit, cases: Sequence[Case]) -> None:
        self.audit, self.price = audit, Price()
        wanted = [m for m in audit.protocol.methods if m.name != "mace"]
        self.asked = take_up(audit, cases, wanted, self.price)
        self._taken_up = self.price.passes
        self.methods = [m for m in wanted if any(m.name in one.maps for one in self.asked)]
        if not self.methods:
            raise AuditError("there is no map to be questioned")
        self.cheap = [m for m in self.methods if is_cheap(m)]
        self.rows = {m.name: MapTrust(method=m.name) for m in self.methods}
        self._trained: dict[str, list[Ranked | None]] = {}

    def expected_passes(self) -> int:
        """How many forward passes all answers take, at most (a backward pass counts as two).

        Fewer where a method refuses a random model, or redrawn layers have no BatchNorm to calibrate.
        """
        from pipeline.comparison.twins import calibration_passes
        from pipeline.trust.faithfulness import RANDOM_ORDERS, STEPS
        from pipeline.trust.randomisation import CASCADES, steps_of

        cases, maps = len(self.asked), 0
        calibrations = 0
        if self.cheap:
            steps = steps_of(self.audit.model.module, self.asked[0].prepared.tensor)
            skipped = CASCADES - 1 if steps > 1 else 0  # the output layer alone is redrawn in one only
            batches = batched([one.prepared.tensor for one in self.asked])
            calibrations = steps * CASCADES * calibration_passes(self.audit.model.module, batches)
            maps = cases * len(self.cheap) * (steps * CASCADES - skipped + len(self._retrained()))
        for one in self.asked:
            maps += DRAWS * sum(m.name in one.maps for m in self.cheap)
        curves = sum(2 + (STEPS - 1) * (RANDOM_ORDERS + 2 * len(one.maps)) for one in self.asked)
        return self._taken_up + 3 * maps + calibrations + curves

    def answer(self, found: Trust) -> None:
        """Randomise, delete, disturb and compare.

        Parameters
        ----------
        found : Trust
            Gets `maps`, `noise`, notes, and passes on top of what it has.
        """
        from pipeline.attribution import METHODS

        left_out = [METHODS[m.name].title for m in self.methods if m not in self.cheap]
        if left_out:
            found.notes.append(
                f"redrawn weights and noise: {', '.join(left_out)} left out, their maps take too many passes"
            )
        steps: dict[str, Callable[[], None]] = {
            "randomised weights": self.randomise,
            "deletion": self.delete,
            "noise": self.disturb,
            "retrained models": self.compare_retrained,
            "agreement of methods": self.agree,
        }
        for name, step in steps.items():
            try:
                step()
            except AuditError as error:
                found.notes.append(f"{name}: {error}")
        found.noise = NOISE
        found.maps += self.rows.values()
        found.passes += self.price.passes

    def randomise(self) -> None:
        """Redraw weights from the output down, several times, and see what is left of each map."""
        from pipeline.trust.randomisation import CASCADES, cascade

        if not self.cheap:
            return
        batches = batched([one.prepared.tensor for one in self.asked])
        stages: list[Stage] = []
        found: dict[str, dict[int, list[Floats]]] = {m.name: {} for m in self.cheap}
        random: dict[str, list[list[Ranked | None]]] = {m.name: [] for m in self.cheap}
        for draw in range(CASCADES):
            seed = seed_for(self.audit, f"cascade/{draw}")
            for stage, module in cascade(self.audit.model.module, batches, seed=seed):
                self.price.passes += stage.passes
                if not draw:
                    stages.append(stage)
                elif not stage.counts:
                    continue
                for m in self.cheap:
                    maps = self._maps(m, module)
                    alike = _table(self._with_trained(m, maps))
                    found[m.name].setdefault(stage.layers, []).append(alike)
                    if stage.layers == stage.of:
                        random[m.name].append(maps)
        for name, steps in found.items():
            self._conclude(self.rows[name], stages, steps, random[name])

    def _conclude(
        self,
        row: MapTrust,
        stages: Sequence[Stage],
        steps: Mapping[int, list[Floats]],
        random: Sequence[Sequence[Ranked | None]],
    ) -> None:
        """Put what redrawn weights did to one method's maps into its row.

        `steps` are tables (images, kinds) by layers redrawn, one a draw; `random` the maps of the models in
        which all is random, one list a draw.
        """
        from pipeline.trust.crossed import crossed_interval
        from pipeline.trust.randomisation import left_over_draws

        pairs = np.full((len(random), len(random), len(self.asked), len(KINDS)), np.nan)
        for a, b in combinations(range(len(random)), 2):
            pairs[a, b] = _table([_alike(x, y) for x, y in zip(random[a], random[b], strict=True)])
        row.draws = len(random)
        row.random_pairs = self._likeness(np.mean([pairs[p] for p in combinations(range(row.draws), 2)], 0))
        row.steps = [
            RandomStep(
                layers=s.layers,
                of=s.of,
                lowest=s.lowest,
                likeness=self._likeness(np.mean(steps[s.layers], 0)),
            )
            for s in stages
        ]
        ranks = np.array([[table[:, 0] for table in steps[s.layers]] for s in stages if s.counts])
        left, draws = left_over_draws(ranks.swapaxes(0, 1), pairs[..., 0])
        row.left = figure_of(crossed_interval(left, draws))

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

    def compare_retrained(self) -> None:
        """Compare with models that were trained again, where the model's card names any."""
        for name in self._retrained():
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

    def _retrained(self) -> list[str]:
        card = self.audit.model.card
        return [name for name in (card.twins if card else ()) if name.startswith("retrained")]

    def _maps(self, method: Method, module: nn.Module) -> list[Ranked | None]:
        """Map of every case by another model; None where the method refuses it."""
        from pipeline.trust.similarity import Ranked

        made: list[Ranked | None] = []
        for one in self.asked:
            try:
                values = map_by(self.audit, module, one.prepared, method, self.price)
                made.append(Ranked(values.astype(np.float32), one.prepared.field))
            except AuditError:
                made.append(None)
        return made

    def _with_trained(self, method: Method, maps: Sequence[Ranked | None]) -> list[Similarity]:
        """Likeness of every case's map to that of another model."""
        from pipeline.trust.similarity import Ranked

        if method.name not in self._trained:
            self._trained[method.name] = [
                Ranked(one.maps[method.name], one.prepared.field) if method.name in one.maps else None
                for one in self.asked
            ]
        return [_alike(own, other) for own, other in zip(self._trained[method.name], maps, strict=True)]

    def _likeness(self, table: Floats) -> Likeness:
        """Mean over the cases of a table (images, kinds)."""
        figures = (figure_of_patients(column, self.asked) for column in table.T)
        return Likeness(**dict(zip(KINDS, figures, strict=True)))


def up_to_sign(alike: Similarity) -> float:
    """Rank correlation of two maps, one of them turned over if that is more alike.

    A randomised model says yes or no by chance, and with it its map speaks for or against.
    """
    return abs(alike.rank_signed)


def _table(alike: Sequence[Similarity]) -> Floats:
    """Put likeness into a table, shape (images, kinds)."""
    return np.array([(up_to_sign(s), s.rank_absolute, s.ssim) for s in alike], np.float64)


def _alike(a: Ranked | None, b: Ranked | None) -> Similarity:
    from pipeline.trust.similarity import Similarity

    return a.like(b) if a and b else Similarity(float("nan"), float("nan"), float("nan"))


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
