"""The measured method card: what each attribution method is worth on the audited model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.record.parts import Part


class CardRow(Part):
    """One method, measured; numbers are medians over the cases it was measured on.

    Attributes
    ----------
    method, family : str
    needs : str
        What the model and the caller must provide.
    refused : str
        Why there are no numbers.
    cases : int
        Cases it was measured on: a costly method gets one.
    passes : float or None
        Arithmetic of one map over that of one forward pass.
    seconds : float or None
        Wall time of one map.
    width_pixels, width : float or None
        Width of the map's autocorrelation (its effective resolution): pixels of the model's grid, and
        millimetres or pixels of the native photograph. None where it is wider than the field.
    class_signed, class_strength, class_ssim : float or None
        The map of the audited class against that of the other one: rank correlation of R, of |R|, and
        structural similarity of |R|.
    distinction : {"places", "mixed", "sign", "none", ""}
        In which way the two differ; see `pipeline.trust.classes.distinction`.
    gini : float or None
        Concentration of |R| in the field.
    regions, regions_even, regions_present : int or None
        Regions that hold 80 % of |R|; as many of an even map; all of them.
    noise : float or None
        Rank correlation of the map with that of the image under small noise.
    colour : float or None
        Rank correlation of the map with that of the photograph with exchanged colours.
    """

    method: str
    family: str = ""
    needs: str = ""
    refused: str = ""
    cases: int = 0
    passes: float | None = None
    seconds: float | None = None
    width_pixels: float | None = None
    width: float | None = None
    class_signed: float | None = None
    class_strength: float | None = None
    class_ssim: float | None = None
    distinction: Literal["places", "mixed", "sign", "none", ""] = ""
    gini: float | None = None
    regions: int | None = None
    regions_even: int | None = None
    regions_present: int | None = None
    noise: float | None = None
    colour: float | None = None


class MethodCards(Part):
    """Every method on the audited model.

    Attributes
    ----------
    rows : list of CardRow
        In the order of `pipeline.attribution.METHODS`; the refused ones too.
    cases : list of str
        Those measured, the first one drawn.
    unit : str
        Of `CardRow.width`.
    grid : list of int
        Spatial shape of the model's input.
    forward_seconds : float or None
        Wall time of one forward pass of one image.
    noise : float
        Standard deviation of the noise over that of the image.
    logits, logits_exchanged : list of float
        Audited logit of each measured case, as it is and with its colours exchanged (photographs).
    """

    rows: list[CardRow] = Field(default_factory=list)
    cases: list[str] = Field(default_factory=list)
    unit: str = "mm"
    grid: list[int] = Field(default_factory=list)
    forward_seconds: float | None = None
    noise: float = 0.0
    logits: list[float] = Field(default_factory=list)
    logits_exchanged: list[float] = Field(default_factory=list)
