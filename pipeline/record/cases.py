"""What the record says of one case, and how its regions were found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from pipeline.record.parts import Part as _Part

if TYPE_CHECKING:
    from pipeline.anatomy.brain import Regions

How = Literal["template space", "registration", "segmentation", "landmarks"]


class RegionsFound(_Part):
    """How a case's regions were found, and what the gate saw; figures that were not judged are None.

    Attributes
    ----------
    how : {"template space", "registration", "segmentation", "landmarks"}
    accepted : bool
        Whether the regions were used.
    reason : str
        Why not, one clause each.
    regions : int
        How many the image holds.
    brain : float or None
        Overlap (Dice) of the image's brain with the template's; of a photograph, the confidence in the
        optic disc; None for a segmentation of the patient's own.
    grey, white, fluid : float or None
        Dice of the tissues.
    correlation : float or None
        Of intensities with the template's.
    contrast : float or None
        Smaller step of the medians fluid → grey → white, over white.
    folded : float or None
        Share of the brain where the deformation folds.
    jacobian, stretch : (float, float) or None
        1st and 99th percentile of the Jacobian determinant; smallest and largest stretch of the affine.
    litres : float or None
        Volume of the brain.
    lost : list of str
        Regions that did not come out.
    """

    how: How
    accepted: bool
    reason: str = ""
    regions: int = 0
    brain: float | None = None
    grey: float | None = None
    white: float | None = None
    fluid: float | None = None
    correlation: float | None = None
    contrast: float | None = None
    folded: float | None = None
    jacobian: tuple[float, float] | None = None
    stretch: tuple[float, float] | None = None
    litres: float | None = None
    lost: list[str] = Field(default_factory=list)


def regions_found(regions: Regions) -> RegionsFound:
    """Take into the record what is known of a case's regions."""
    made = RegionsFound(
        how=regions.how,
        accepted=regions.registered,
        reason=regions.reason,
        regions=len(regions.table),
        brain=None if regions.how == "segmentation" else regions.dice,
        correlation=regions.correlation,
    )
    quality = regions.quality
    if quality is None:
        return made
    return made.model_copy(
        update={
            "brain": quality.brain,
            "grey": quality.grey,
            "white": quality.white,
            "fluid": quality.fluid,
            "correlation": quality.correlation,
            "contrast": quality.contrast,
            "folded": quality.folded,
            "jacobian": quality.jacobian,
            "stretch": quality.stretch,
            "litres": quality.litres,
            "lost": list(quality.lost),
        }
    )


class CaseRow(_Part):
    """One case as the report shows it: no covariates, no paths.

    Attributes
    ----------
    label, predicted : int or None
        Class indices.
    scores : list of float
        Probability of each class.
    logit : float
        The audited logit.
    maps : list of str
        `<method>_class-<t>` of the maps there are.
    seconds : float
    notes : list of str
        E.g. `not registered: …`, `negative logit`.
    page : bool
        Whether the case has a page of its own; then `cases/<case>.npz` is there.
    regions_registered : bool or None
    registration : RegionsFound or None
        How the regions got there and what the gate found; None where no regions were asked for.
    """

    case: str
    label: int | None = None
    predicted: int | None = None
    scores: list[float] = Field(default_factory=list)
    logit: float | None = None
    maps: list[str] = Field(default_factory=list)
    seconds: float = 0.0
    notes: list[str] = Field(default_factory=list)
    page: bool = False
    regions_registered: bool | None = None
    registration: RegionsFound | None = None

    @property
    def correct(self) -> bool | None:
        """Whether the prediction is the label; None without a label."""
        return None if self.label is None or self.predicted is None else self.label == self.predicted


class ErrorRow(_Part):
    """A case or a method of a case that could not be done."""

    case: str
    stage: str
    reason: str
