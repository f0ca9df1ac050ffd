"""Faithfulness: whether the score falls where the map says that it would.

Patches are deleted, the most relevant first, and the logit is watched (region perturbation, Samek et al.
2017, arXiv:1509.06321; deletion and insertion, Petsiuk et al. 2018, arXiv:1806.07421). Inserting patches into
the fully deleted image, most relevant first, passes through the same images as deleting the least relevant
first, backwards: one set of forward passes serves both curves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import AuditError, ModelError
from pipeline.trust.maps import Price

if TYPE_CHECKING:
    import torch
    from torch import nn

Floats = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

STEPS = 6
"""Steps of a curve: a sixth of the patches is deleted at each."""
RANDOM_ORDERS = 2
BATCH = 4


@dataclass(frozen=True)
class Curves:
    """Logits on the way from the whole image to the fully deleted one; index 0 is the whole image.

    Attributes
    ----------
    fractions : ndarray, shape (steps + 1,)
        Share of the patches deleted.
    most_first, least_first : ndarray, shape (steps + 1,)
        The most, or the least relevant patches deleted first.
    random : ndarray, shape (orders, steps + 1)
        In random order; the same orders for every map of an image.
    """

    fractions: Floats
    most_first: Floats
    least_first: Floats
    random: Floats

    @property
    def insertion(self) -> Floats:
        """Logit when patches are put back into the fully deleted image, most relevant first."""
        return self.least_first[::-1]

    @property
    def deletion(self) -> float:
        """AOPC of deletion, most relevant first, in logits."""
        return aopc(self.most_first)

    @property
    def over_random(self) -> float:
        """AOPC of deletion beyond the mean AOPC of random orders, in logits."""
        return self.deletion - float(np.mean([aopc(row) for row in self.random]))

    @property
    def over_reverse(self) -> float:
        """AOPC of deletion beyond that of the reverse order, in logits."""
        return self.deletion - aopc(self.least_first)

    @property
    def insertion_over_random(self) -> float:
        """Mean logit of the insertion curve beyond that of random orders."""
        return float(self.insertion.mean() - self.random.mean())


def aopc(logits: npt.ArrayLike) -> float:
    """Area over the perturbation curve, Samek et al. 2017, equation 12: mean over steps of f(x₀) − f(x_k).

    Parameters
    ----------
    logits : array, shape (steps + 1,)
        The first is that of the whole image.
    """
    values = np.asarray(logits, np.float64)
    return float(np.mean(values[0] - values))


def patches_of(field: BoolArray, patch: int) -> npt.NDArray[np.int64]:
    """Divide the field into patches: a grid of squares or cubes, cut at its border.

    Parameters
    ----------
    field : ndarray of bool, shape spatial
        Brain or field of view.
    patch : int
        Side in pixels or voxels.

    Returns
    -------
    ndarray of int64, shape spatial
        Number of the patch from 0, and −1 outside the field. A piece of fewer than an eighth of a full patch
        is no patch of its own and stays as it is.
    """
    grid = tuple(-(-size // patch) for size in field.shape)
    cells: npt.NDArray[np.int64] = np.asarray(
        np.ravel_multi_index(tuple(np.indices(field.shape) // patch), grid)
    )
    inside = np.bincount(cells[field], minlength=int(cells.max()) + 1)
    kept = inside * 8 >= patch**field.ndim
    numbers = np.full(inside.shape, -1)
    numbers[kept] = np.arange(int(kept.sum()))
    labels: npt.NDArray[np.int64] = np.where(field, numbers[cells], -1)
    return labels


def patch_side(field: BoolArray, patches: int) -> int:
    """Side of square or cubic patches of which about so many cover the field."""
    side = (float(field.sum()) / patches) ** (1 / field.ndim)
    return max(1, int(np.rint(side)))


def patch_relevance(values: npt.ArrayLike, labels: npt.NDArray[np.int64]) -> Floats:
    """Mean relevance of every patch, shape (patches,)."""
    inside = labels >= 0
    count = np.bincount(labels[inside])
    sums: Floats = np.bincount(labels[inside], np.asarray(values, np.float64)[inside], len(count)) / count
    return sums


def blurred_inside(image: torch.Tensor, field: BoolArray) -> torch.Tensor:
    """Blur an image within the anatomy: what deleted patches are filled with.

    Zero imitates atrophy on MRI, grey imitates healthy tissue; a blur keeps the local brightness and takes
    the detail away. Darkness from outside the field does not leak in.

    Parameters
    ----------
    image : torch.Tensor, shape (1, C, *spatial)
    field : ndarray of bool, shape spatial

    Returns
    -------
    torch.Tensor, shape (1, C, *spatial)
        Outside the field as it was.
    """
    import torch

    from pipeline.attribution.fills import BLUR_SHARE, blur

    inside = torch.from_numpy(np.ascontiguousarray(field))[None, None].to(image)
    sigma = min(image.shape[2:]) / BLUR_SHARE
    weight = blur(inside, sigma)
    return torch.where(inside > 0, blur(image * inside, sigma) / weight.clamp(min=1e-6), image)


class Deleting:
    """One image whose patches are deleted step by step; random orders are run once for all maps.

    Parameters
    ----------
    model : torch.nn.Module
    image : torch.Tensor, shape (1, C, *spatial)
    field : ndarray of bool, shape spatial
    target : int
    patches : int
        About so many cover the field.
    steps, orders : int
        Steps of a curve; random orders.
    seed : int
        Of the random orders.
    price : Price
        Counted on.

    Raises
    ------
    AuditError
        If the field has too few patches.
    """

    def __init__(
        self,
        model: nn.Module,
        image: torch.Tensor,
        field: BoolArray,
        target: int,
        *,
        patches: int,
        price: Price,
        steps: int = STEPS,
        orders: int = RANDOM_ORDERS,
        seed: int = 0,
    ) -> None:
        self.model, self.image, self.target, self.price, self.steps = model, image, target, price, steps
        self.labels = patches_of(field, patch_side(field, patches))
        self.count = int(self.labels.max()) + 1
        if self.count < 2 * steps:
            raise AuditError(
                f"a field of {self.count} patches is too small to delete it in {steps} steps",
                "ask for smaller patches",
            )
        self.fill = blurred_inside(image, field)
        self.score = _scoring(model, image)
        rng = np.random.default_rng(seed)
        self.ends = self._logits([np.zeros(self.count, bool), np.ones(self.count, bool)])
        self.ties = rng.permutation(self.count)
        self.random = np.array([self._curve(rng.permutation(self.count)) for _ in range(orders)])

    def curves(self, values: npt.ArrayLike) -> Curves:
        """Delete by the relevance of a map.

        Parameters
        ----------
        values : array, shape spatial
            Positive speaks for the target.
        """
        # equal patches (a region's, an empty map's) come in random order, not in that of the grid
        relevance = patch_relevance(values, self.labels)[self.ties]
        order = self.ties[np.argsort(-relevance, kind="stable")]
        return Curves(
            np.array([count / self.count for count in self._counts()]),
            self._curve(order),
            self._curve(order[::-1]),
            self.random,
        )

    def _counts(self) -> list[int]:
        return [round(self.count * step / self.steps) for step in range(self.steps + 1)]

    def _curve(self, order: npt.NDArray[Any]) -> Floats:
        deleted = []
        for count in self._counts()[1:-1]:
            chosen = np.zeros(self.count, bool)
            chosen[order[:count]] = True
            deleted.append(chosen)
        made: Floats = np.concatenate([self.ends[:1], self._logits(deleted), self.ends[1:]])
        return made

    def _logits(self, deleted: Sequence[BoolArray]) -> Floats:
        """Logits of the target with each set of patches deleted."""
        import torch

        found = []
        for begin, end in pairwise([*range(0, len(deleted), BATCH), len(deleted)]):
            # the last entry of a table stands for what belongs to no patch (-1) and is never deleted
            tables = (np.append(chosen, False) for chosen in deleted[begin:end])
            masks = torch.from_numpy(np.stack([table[self.labels] for table in tables]))[:, None]
            images = torch.where(masks.to(self.image.device), self.fill, self.image)
            found.append(self.score(images)[:, self.target])
            self.price.passes += len(images)
        made: Floats = torch.cat(found).double().cpu().numpy()
        return made


def _scoring(model: nn.Module, image: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """Logits of all classes of images like this one; BatchNorm is folded where the model can be captured."""
    import torch

    from pipeline.attribution import logits
    from pipeline.attribution.question import scores
    from pipeline.models.graph import capture

    weight = next(iter(model.parameters()), image)
    if (weight.device, weight.dtype) != (image.device, image.dtype):
        return lambda images: logits(model, images)
    try:
        graph = capture(model, image)
    except ModelError:
        return lambda images: logits(model, images)

    def score(images: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return scores(graph.run(images, fold=True)[graph.output], "logit", graph.final)

    return score
