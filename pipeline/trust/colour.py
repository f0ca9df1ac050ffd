"""What exchanging the colours of a photograph does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.errors import MethodError

if TYPE_CHECKING:
    import torch

ORDER = (2, 0, 1)
"""What becomes red, green and blue: each colour takes the place of another, none stays."""


def colours_exchanged(
    image: torch.Tensor, mean: Sequence[float], std: Sequence[float], order: Sequence[int] = ORDER
) -> torch.Tensor:
    """Exchange the colours of a photograph that is already normalised.

    Every pixel keeps its three intensities, so brightness, edges and texture stay where they are.

    Parameters
    ----------
    image : torch.Tensor, shape (N, 3, H, W)
        (colour − mean) / std of each channel.
    mean, std : sequence of 3 floats
        Of that normalisation.
    order : sequence of 3 ints
        Channel k becomes what channel `order[k]` was.

    Returns
    -------
    torch.Tensor, shape (N, 3, H, W)
        Normalised as the model expects it.

    Raises
    ------
    MethodError
        If the image does not have three channels.
    """
    if image.ndim != 4 or image.shape[1] != 3 or sorted(order) != [0, 1, 2]:
        raise MethodError("only photographs with three colours have colours to exchange", "leave it out")
    centre, width = (image.new_tensor(v).reshape(1, 3, 1, 1) for v in (list(mean), list(std)))
    colours = image * width + centre
    return (colours[:, list(order)] - centre) / width
