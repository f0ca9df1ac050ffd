"""What interventions found: part of `audit.json`, and kept as `interventions.json`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.record.kept import Kept
from pipeline.record.parts import Figure, Part


class FactorRow(Part):
    """Share of one factor in the gap between the classes.

    Attributes
    ----------
    name, title : str
    wanted : bool
        Whether the decision should rest on it.
    share : Figure
    limit : float or None
        Smallest share that this cohort would flag in 95 of 100 audits.
    """

    name: str
    title: str
    wanted: bool = False
    share: Figure
    limit: float | None = None


class CueRow(Part):
    """What a cue did to the cases of one class.

    Attributes
    ----------
    name, title : str
    stamped : bool
        Whether it is something put on the image, which a criterion judges; else a change of the whole image.
    positive : bool
        Whether the cases are of the audited class.
    shift : Figure
        Change of the score in standard deviations of clean scores within a class.
    flips : Figure
        Share of right decisions that it turned, with the exact interval.
    """

    name: str
    title: str
    stamped: bool = True
    positive: bool
    shift: Figure
    flips: Figure


class RemovalRow(Part):
    """What filling a structure in does to the score of the audited class.

    Attributes
    ----------
    name, title : str
    removed, control, difference : Figure
        Fall of the score in logit units: the structure, the same shapes elsewhere, and paired by case.
    """

    name: str
    title: str
    removed: Figure
    control: Figure
    difference: Figure


class FillRow(Part):
    """What covering a region with one fill does to the score of the audited class.

    Attributes
    ----------
    fill : str
        `swap` is the same place of a matched case of the other class.
    region : str
    role : {"expected", "control", ""}
    positive : bool
        Which class the cases are of.
    fall : Figure
        Score before minus score after, in logit units.
    """

    fill: str
    region: str
    role: Literal["expected", "control", ""] = ""
    positive: bool
    fall: Figure


class CovariateRow(Part):
    """What the score goes with among cases of one class."""

    positive: bool
    covariate: str
    level: str = ""
    measure: str
    figure: Figure
    p: float | None = None


class Interventions(Kept):
    """All interventions of one audit.

    Attributes
    ----------
    gap : Figure
        Mean difference of the score between the members of a pair, in logit units.
    pairs : int
    factors, cues, removals, fills, covariates : list
    warnings : list of str
        What in the data alone gives the label away.
    notes : list of str
        What could not be intervened upon, and why.
    seconds : float
    """

    gap: Figure = Field(default_factory=Figure)
    pairs: int = 0
    factors: list[FactorRow] = Field(default_factory=list)
    cues: list[CueRow] = Field(default_factory=list)
    removals: list[RemovalRow] = Field(default_factory=list)
    fills: list[FillRow] = Field(default_factory=list)
    covariates: list[CovariateRow] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)
    seconds: float = 0.0
