"""What maps are worth beside experts' marks: lesion by lesion, in subgroups, and against which twins."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.record.parts import Figure, Part


class DetectionRow(Part):
    """Candidates of one map in one case, see `pipeline.comparison.detect`.

    Attributes
    ----------
    method : str
    false : list of float
        Scores of the candidates that found no lesion of any type.
    found : dict of str to list of float or None
        Lesion type → for each lesion the highest score that found it; None for one never found.
    """

    method: str
    false: list[float]
    found: dict[str, list[float | None]]


class CurveRow(Part):
    """Overlap of one map with the marks of one lesion type at every threshold.

    Attributes
    ----------
    method, lesion : str
    selected, correct : list of int
        Pixels at or above each of `pipeline.comparison.thresholds.FRACTIONS`, and marked ones among them.
    marked : int
        Marked pixels.
    otsu : tuple of float or None
        Dice, IoU and threshold (share of the maximum) after Otsu.
    grown : tuple of float or None
        Dice and IoU of the segment that grows from the map's highest pixels along the image's edges, see
        `pipeline.attribution.localisation.localise`.
    excluded : str
        Why nothing could be measured.
    """

    method: str
    lesion: str
    selected: list[int]
    correct: list[int]
    marked: int
    otsu: tuple[float | None, float | None, float | None]
    grown: tuple[float | None, float | None] = (None, None)
    excluded: str = ""


class TwinRow(Part):
    """One model that the methods are compared with.

    Attributes
    ----------
    name : str
        `twin-1` … or `shuffled`.
    kind : {"random weights", "shuffled labels"}
    spread, relative_spread : float or None
        Standard deviation of its logits over images, and that over their size.
    images : int
        How many it was calibrated on, or checked with.
    degenerate : str
        Why it is not compared with; empty if it is.
    zero_maps : dict of str to float
        Method → share of its maps that are zero everywhere; above 5 % the method is not compared with it.
    """

    name: str
    kind: Literal["random weights", "shuffled labels"]
    spread: float | None = None
    relative_spread: float | None = None
    images: int = 0
    degenerate: str = ""
    zero_maps: dict[str, float] = Field(default_factory=dict)


class LesionFinding(Part):
    """How well one map finds lesions of one type, one by one.

    Attributes
    ----------
    method, lesion : str
        Method, or `null:<name>`.
    sensitivity, false_per_image : Figure
        At the working point that was chosen on the other patients.
    rates : list of float
        False alarms per image of the free-response curve.
    curve : list of Figure
        Sensitivity at each rate.
    cpm : Figure
        Mean sensitivity over the rates.
    lesions, images : int
    """

    method: str
    lesion: str
    sensitivity: Figure
    false_per_image: Figure
    rates: list[float] = Field(default_factory=list)
    curve: list[Figure] = Field(default_factory=list)
    cpm: Figure = Field(default_factory=Figure)
    lesions: int = 0
    images: int = 0


class OverlapFinding(Part):
    """Overlap of a thresholded map with the marks.

    Attributes
    ----------
    otsu_dice, otsu_iou : Figure
        After Otsu's threshold.
    grown_dice, grown_iou : Figure
        Of the segment that grows from the map's highest pixels (Simonyan et al. 2013).
    fixed_dice, fixed_iou : Figure
        At the share of the maximum that served the other patients best.
    threshold : float or None
        That share, median over cases.
    """

    method: str
    lesion: str
    otsu_dice: Figure
    otsu_iou: Figure
    grown_dice: Figure = Field(default_factory=Figure)
    grown_iou: Figure = Field(default_factory=Figure)
    fixed_dice: Figure
    fixed_iou: Figure
    threshold: float | None = None


class GroupRow(Part):
    """One number in one subgroup, beside the rest of the cohort.

    Attributes
    ----------
    metric : str
        `correct` is the share of right answers of the model itself.
    method, lesion : str
        Empty where they do not apply.
    grouping, level : str
        E.g. `sex`, `F`.
    difference : float or None
        To the rest.
    p : float or None
        Permutation test, corrected over the table (Benjamini–Hochberg).
    note : str
        E.g. why there is no number.
    """

    metric: str
    method: str = ""
    lesion: str = ""
    grouping: str
    level: str
    figure: Figure
    difference: float | None = None
    p: float | None = None
    note: str = ""


class ExpertFindings(Part):
    """All of it, for one audit.

    Attributes
    ----------
    twins : list of TwinRow
    lesions : list of LesionFinding
    overlaps : list of OverlapFinding
    groups : list of GroupRow
    smallest_group : int
        Patients below which a subgroup gets no number.
    negative : int
        Cases with marks whose logit for the audited class is negative: reported apart.
    dice_of_experts : dict of str to Figure
        Lesion type → how far the marks of several experts overlap, mean over pairs.
    """

    twins: list[TwinRow] = Field(default_factory=list)
    lesions: list[LesionFinding] = Field(default_factory=list)
    overlaps: list[OverlapFinding] = Field(default_factory=list)
    groups: list[GroupRow] = Field(default_factory=list)
    smallest_group: int = 6
    negative: int = 0
    dice_of_experts: dict[str, Figure] = Field(default_factory=dict)
