"""What one audit is to do, and which criteria it must meet: written before the run, in YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictInt,
    StrictStr,
    ValidationError,
    field_validator,
    model_validator,
)

from pipeline.errors import ProtocolError

SCHEMA = "relevance-audit-protocol/1"
NAME_PATTERN = r"^[A-Za-z0-9_-]{1,64}$"


class Method(BaseModel):
    """One attribution method with its options.

    Attributes
    ----------
    name : str
        A name of `pipeline.attribution.METHODS`.
    options : dict
        Passed on to `attribute` as they are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    options: dict[str, Any] = Field(default_factory=dict)


class Criterion(BaseModel):
    """A bound that the interval of one finding must lie within.

    Attributes
    ----------
    name : str
        Which finding: a name of `pipeline.verdict.FINDINGS`.
    at_least, at_most : float, optional
        Exactly one is set. `at_least` is met when the *lower* end of the 95 % interval reaches it,
        `at_most` when the *upper* end stays below.
    method : str, optional
        For findings that are made once a method.
    reason : str
        Why this bound; printed in the report.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    at_least: float | None = Field(default=None, allow_inf_nan=False)
    at_most: float | None = Field(default=None, allow_inf_nan=False)
    method: str | None = None
    reason: str = ""

    @model_validator(mode="after")
    def _one_bound(self) -> Criterion:
        if (self.at_least is None) == (self.at_most is None):
            msg = f"criterion {self.name!r} needs either at_least or at_most"
            raise ValueError(msg)
        return self


class Twins(BaseModel):
    """Models of the same architecture that every method is compared with.

    Attributes
    ----------
    random : int
        How many with random weights.
    shuffled_labels : bool
        Also the one trained on shuffled labels, where the model's bundle has it.
    methods : tuple of str, optional
        For which methods; by default those of the gradient, CAM and LRP families that take a few passes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    random: int = Field(default=3, ge=0, le=20)
    shuffled_labels: bool = True
    methods: tuple[str, ...] | None = None


class Measuring(BaseModel):
    """How maps are measured against marks; the same for every method, twin and null map.

    Attributes
    ----------
    smoothing : float
        Standard deviation of a Gaussian in pixels of the model's grid, before anything is measured:
        convolutions with stride 2 leave a checkerboard in back-propagated maps.
    tolerance : float
        Distance (mm, or native pixels of a photograph) at which the pointing game still counts a hit and a
        peak still finds a lesion.
    smallest_mark : int
        Marks of fewer native pixels in the field are left out and counted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    smoothing: float = Field(default=0.0, ge=0, le=50)
    tolerance: float = Field(default=0.0, ge=0, le=500)
    smallest_mark: int = Field(default=1, ge=1)


class TrustWork(BaseModel):
    """How much is asked of the maps themselves.

    Attributes
    ----------
    cases : int
        Cases whose maps are questioned (weights randomised, noise added, pixels deleted); 0 asks nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cases: int = Field(default=6, ge=0, le=100)


class CuePatch(BaseModel):
    """A suspected cue, cut out of a photograph: a camera's label, a logo, a scale.

    Attributes
    ----------
    name : str
        Letters, digits, `_`, `-`.
    image : str
        A picture of the cue, relative to the protocol file.
    place : (float, float)
        Where its middle goes, as shares of the height and the width of the field's bounding square.
    width : float
        Its width as a share of that square's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=NAME_PATTERN)
    image: str
    place: tuple[Annotated[float, Field(ge=0, le=1)], Annotated[float, Field(ge=0, le=1)]]
    width: float = Field(gt=0, le=1)


class Protocol(BaseModel):
    """One audit.

    Attributes
    ----------
    schema_ : str
        `relevance-audit-protocol/1` (key `schema`).
    modality : {"mri", "fundus"}
    model : str
        A bundle folder, a TorchScript file, or the name of a reference model; paths are relative to the
        protocol file.
    cohort : str or {"idrid": folder}
        A CSV/TSV table or an IDRiD segmentation folder, relative to the protocol file.
    target : int or str
        Class index or class name that is audited.
    methods : tuple of Method
        Written as names or as `{name: lrp, options: {composite: epsilon}}`.
    atlas : str or None
        Parcellation for region methods: a name of `relevance-audit atlases`, your own label image beside the
        protocol, or, for photographs, `ETDRS`.
    use : {"any", "commercial"}
        `commercial` refuses an atlas whose licence does not allow that.
    disease : str
        Decides which regions are expected (`atlases/diseases`).
    criteria : tuple of Criterion
    seed : int
    keep_maps : {"selected", "all", "none"}
    case_pages : int
        How many cases get a page of their own.
    nulls : tuple of str
        Null maps to compare with.
    cues : tuple of CuePatch
        Suspected cues of your own, tried beside the standard battery (photographs).
    twins : Twins
        Models to compare with.
    measuring : Measuring
        Smoothing, tolerance and smallest mark.
    trust : TrustWork
        How many cases' maps are questioned.
    smallest_group : int
        Subgroups of fewer patients are named and get no number.
    title : str
        Printed on the cover.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    schema_: Literal["relevance-audit-protocol/1"] = Field(alias="schema")
    title: str = Field(default="", max_length=120)
    modality: Literal["mri", "fundus"]
    model: str
    cohort: str | dict[Literal["idrid"], str]
    target: StrictInt | StrictStr
    methods: tuple[Method, ...] = Field(min_length=1)
    atlas: str | None = None
    use: Literal["any", "commercial"] = "any"
    disease: str
    criteria: tuple[Criterion, ...]
    seed: int = Field(ge=0, lt=2**32)
    keep_maps: Literal["selected", "all", "none"] = "selected"
    case_pages: int = Field(default=6, ge=0, le=200)
    nulls: tuple[str, ...] = ("centre", "random", "sobel", "contrast", "average")
    cues: tuple[CuePatch, ...] = ()
    twins: Twins = Twins()
    measuring: Measuring = Measuring()
    trust: TrustWork = TrustWork()
    smallest_group: int = Field(default=6, ge=2, le=1000)

    @field_validator("methods", mode="before")
    @classmethod
    def _names_are_methods(cls, value: object) -> object:
        if isinstance(value, list | tuple):
            return tuple({"name": item} if isinstance(item, str) else item for item in value)
        return value

    @model_validator(mode="after")
    def _names_once(self) -> Protocol:
        lists = {
            "methods": [method.name for method in self.methods],
            "nulls": list(self.nulls),
            "cues": [cue.name for cue in self.cues],
            "twins.methods": list(self.twins.methods or ()),
        }
        twice = [
            f"{key}: {name} stands there twice"
            for key, names in lists.items()
            for name in sorted({name for name in names if names.count(name) > 1})
        ]
        if twice:
            raise ValueError("; ".join(twice))
        return self

    def as_yaml(self) -> str:
        """Return the protocol as YAML, every default written out."""
        return yaml.safe_dump(
            self.model_dump(mode="json", by_alias=True), sort_keys=False, allow_unicode=True
        )


def load_protocol(path: Path | str) -> Protocol:
    """Read a protocol; its paths become absolute.

    Parameters
    ----------
    path : path
        A YAML file.

    Raises
    ------
    pipeline.errors.ProtocolError
        If the file is missing, no YAML, or says something that a protocol cannot say: one line that
        names every mistake.
    """
    path = Path(path)
    if not path.is_file():
        raise ProtocolError(f"{path}: protocol not found", "name an existing YAML file")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(
            f"{path.name}: not readable as YAML ({' '.join(str(error).split())[:160]})"
        ) from error
    if not isinstance(content, dict):
        raise ProtocolError(f"{path.name}: is not a table of keys", "see docs/file-formats.md for an example")
    try:
        protocol = Protocol.model_validate(content)
    except ValidationError as error:
        mistakes = "; ".join(_mistake(e["loc"], e["msg"]) for e in error.errors())
        raise ProtocolError(f"{path.name}: {mistakes}", "see docs/file-formats.md") from error
    return _absolute(protocol, path.resolve().parent)


def _mistake(where: tuple[int | str, ...], message: str) -> str:
    place = ".".join(str(part) for part in where)
    text = message.removeprefix("Value error, ")
    return f"{place}: {text}" if place else text


def _atlas_file(atlas: str | None, folder: Path) -> str | None:
    """Make the path of one's own atlas absolute; a name stays a name."""
    own = atlas is not None and atlas.lower().endswith((".nii", ".nii.gz"))
    return str((folder / Path(str(atlas)).expanduser()).resolve()) if own else atlas


def _absolute(protocol: Protocol, folder: Path) -> Protocol:
    def resolve(text: str) -> str:
        candidate = folder / Path(text).expanduser()
        return str(candidate.resolve()) if candidate.exists() or "/" in text or "." in text else text

    cohort = protocol.cohort
    return protocol.model_copy(
        update={
            "model": resolve(protocol.model),
            "atlas": _atlas_file(protocol.atlas, folder),
            "cues": tuple(
                cue.model_copy(update={"image": str((folder / cue.image).resolve())}) for cue in protocol.cues
            ),
            "cohort": str((folder / cohort).resolve())
            if isinstance(cohort, str)
            else {"idrid": str((folder / cohort["idrid"]).resolve())},
        }
    )
