"""Which regions a disease is expected in, by name, and which must not matter."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.resources import files
from pathlib import Path

from atlases.atlas import split_side
from pipeline.errors import AnatomyError


@dataclass(frozen=True)
class ExpectedRegions:
    """A disease's regions in one atlas's own table.

    Attributes
    ----------
    disease : str
    tiers : tuple of mapping of str to tuple of int
        Tier 1 first: concept (`"hippocampus"`) → labels. Concepts that the atlas lacks are left out.
    negative_controls : mapping of str to tuple of int
        Regions in which no relevance is expected.
    absent : tuple of str
        Concepts for which the atlas has no region.
    source : str
        Where the expectation comes from.
    """

    disease: str
    tiers: tuple[Mapping[str, tuple[int, ...]], ...]
    negative_controls: Mapping[str, tuple[int, ...]]
    absent: tuple[str, ...]
    source: str

    def labels(self, *tiers: int) -> tuple[int, ...]:
        """Labels of the given tiers (1, 2 …), ascending; of all tiers when none is given."""
        chosen = tiers or tuple(range(1, len(self.tiers) + 1))
        return tuple(
            sorted({label for tier in chosen for found in self.tiers[tier - 1].values() for label in found})
        )

    @property
    def negative_labels(self) -> tuple[int, ...]:
        """Labels of all negative controls, ascending."""
        return tuple(sorted({label for found in self.negative_controls.values() for label in found}))


def diseases() -> tuple[str, ...]:
    """Names of the diseases that come with the tool."""
    folder = files("atlases").joinpath("diseases")
    return tuple(sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".toml")))


def expected_regions(disease: str | Path, table: Mapping[int, str]) -> ExpectedRegions:
    """Find a disease's regions in an atlas's table, by name.

    Parameters
    ----------
    disease : str or Path
        `"alzheimer"`, or the path of a TOML file of the same form as `atlases/diseases/alzheimer.toml`:
        tables `[tier1]`, `[tier2]` … and `[negative_controls]` of concept → list of region names, without
        side, in any atlas's spelling; `*` and `?` as in file names; case does not matter.
    table : mapping of int to str
        Label to region name, of an `Atlas` or of a patient's `Regions`.

    Raises
    ------
    pipeline.errors.AnatomyError
        For an unknown disease, an unreadable file, or when no region of tier 1 is found in the table.
    """
    content = _read(disease)
    stems = {index: plain_name(split_side(name)[0]) for index, name in table.items()}
    absent: list[str] = []

    def resolve(concepts: Mapping[str, list[str]]) -> dict[str, tuple[int, ...]]:
        found: dict[str, tuple[int, ...]] = {}
        for concept, names in concepts.items():
            labels = tuple(
                sorted(i for i, stem in stems.items() if any(fnmatchcase(stem, plain_name(n)) for n in names))
            )
            if labels:
                found[concept] = labels
            else:
                absent.append(concept)
        return found

    numbers = sorted(int(key[4:]) for key in content if key.startswith("tier") and key[4:].isdigit())
    tiers = tuple(resolve(content[f"tier{number}"]) for number in numbers)
    controls = resolve(content.get("negative_controls", {}))
    if not tiers or not tiers[0]:
        raise AnatomyError(
            f"disease {disease}: the atlas has none of its tier 1 regions",
            "use another atlas, or name the regions in a disease file of your own",
        )
    return ExpectedRegions(
        disease=str(content.get("disease", {}).get("name", disease)),
        tiers=tiers,
        negative_controls=controls,
        absent=tuple(absent),
        source=str(content.get("disease", {}).get("source", "")),
    )


def plain_name(name: str) -> str:
    """Region name in lower case, without commas, words parted by one blank: spellings of it compare equal.

    Examples
    --------
    >>> plain_name("Cingulate_Gyrus,_posterior-division")
    'cingulate gyrus posterior division'
    """
    return " ".join(name.lower().replace(",", " ").replace("_", " ").replace("-", " ").split())


def _read(disease: str | Path) -> dict[str, dict[str, list[str]]]:
    path = Path(disease)
    try:
        if path.suffix == ".toml":
            text = path.read_text(encoding="utf-8")
        elif str(disease) in diseases():
            text = files("atlases").joinpath("diseases", f"{disease}.toml").read_text(encoding="utf-8")
        else:
            raise AnatomyError(
                f"unknown disease {str(disease)!r}",
                f"use one of {', '.join(diseases())}, or the path of a TOML file",
            )
        content: dict[str, dict[str, list[str]]] = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise AnatomyError(f"disease file {disease} cannot be read ({error})", "mend the file") from error
    for section, concepts in content.items():
        if section == "disease":
            continue
        for concept, names in concepts.items():
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise AnatomyError(
                    f"disease file {disease}: [{section}] {concept} is not a list of names",
                    'write for example hippocampus = ["Hippocampus"]',
                )
    return content
