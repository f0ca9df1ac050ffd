"""How far the maps of an audit can be trusted: part of `audit.json`, and kept as `trust.json`."""

from __future__ import annotations

from pydantic import Field

from pipeline.record.clusters import Clustering
from pipeline.record.kept import Kept
from pipeline.record.method_card import MethodCards
from pipeline.record.parts import Figure, Part


class Likeness(Part):
    """How alike maps are: 1 for equal ones, about 0 for unrelated ones.

    Attributes
    ----------
    rank : Figure
        Spearman's rank correlation of R, up to its sign, within the anatomy.
    strength : Figure
        Spearman's rank correlation of |R|.
    ssim : Figure
        Structural similarity of |R|.
    """

    rank: Figure = Figure()
    strength: Figure = Figure()
    ssim: Figure = Figure()


class RandomStep(Part):
    """One step of a cascade that draws weights anew, from the output layer down.

    Attributes
    ----------
    layers, of : int
        Layers redrawn so far, and layers in all.
    lowest : str
        Name of the redrawn layer that is nearest to the image.
    likeness : Likeness
        Of the trained model's map to that of the model so far redrawn.
    """

    layers: int
    of: int
    lowest: str
    likeness: Likeness


class Deletion(Part):
    """What became of the logit as patches were deleted, in the order of a map and in others.

    Attributes
    ----------
    over_random : Figure
        Area over the deletion curve (AOPC), most relevant patches first, beyond random order; logits.
    over_reverse : Figure
        The same beyond the reverse order.
    insertion : Figure
        Area under the insertion curve, most relevant patches first, beyond random order; logits.
    fractions : list of float
        Share of patches deleted.
    most_first, least_first, random : list of float
        Mean change of the logit over patients, at each fraction.
    """

    over_random: Figure
    over_reverse: Figure
    insertion: Figure
    fractions: list[float] = Field(default_factory=list)
    most_first: list[float] = Field(default_factory=list)
    least_first: list[float] = Field(default_factory=list)
    random: list[float] = Field(default_factory=list)


class MapTrust(Part):
    """What was measured of the maps of one method.

    Attributes
    ----------
    method : str
    draws : int
        How many times the weights were redrawn, each time anew.
    left : Figure
        What is left of the map (of `Likeness.rank`) when weights are redrawn, mean over draws and over the
        steps but the first: 1 all, 0 no more alike than maps of two random models. Its interval is for other
        patients and other draws.
    steps : list of RandomStep
        Mean over the draws; the first step, the output layer alone, of one draw.
    random_pairs : Likeness or None
        Of maps of independent random models to each other.
    deletion : Deletion or None
    noise_change : Figure
        Largest relative change of the map under small noise.
    noise_rank : Figure
        Rank correlation of R with that of the noisy image.
    retrained : dict of str to Figure
        Model that was trained again → rank correlation of R with that of its map.
    agreement : dict of str to Figure
        Other method → rank correlation of |R| of both on the same images.
    """

    method: str
    draws: int = 0
    left: Figure = Figure()
    steps: list[RandomStep] = Field(default_factory=list)
    random_pairs: Likeness | None = None
    deletion: Deletion | None = None
    noise_change: Figure = Figure()
    noise_rank: Figure = Figure()
    retrained: dict[str, Figure] = Field(default_factory=dict)
    agreement: dict[str, Figure] = Field(default_factory=dict)


class Trust(Kept):
    """Trust of the maps, the measured method card, and clusters of maps.

    Attributes
    ----------
    cases : list of str
        Cases whose maps were questioned, drawn by the protocol's seed.
    noise : float
        Standard deviation of the noise, as a share of that of the image.
    maps : list of MapTrust
    card : MethodCards or None
    clusters : list of Clustering
    expected_passes : int
        Forward passes of the model that all this was expected to take, at most.
    passes : int
        Forward passes that it took.
    seconds : float
    notes : list of str
        What could not be done, and why.
    """

    cases: list[str] = Field(default_factory=list)
    noise: float = 0.0
    maps: list[MapTrust] = Field(default_factory=list)
    card: MethodCards | None = None
    clusters: list[Clustering] = Field(default_factory=list)
    expected_passes: int = 0
    passes: int = 0
    seconds: float = 0.0
    notes: list[str] = Field(default_factory=list)
