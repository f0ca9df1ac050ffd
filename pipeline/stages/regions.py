"""Anatomical regions of one case, on the model's grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.cohort import Case
from pipeline.images import Photograph, Volume
from pipeline.models.prepared import Prepared
from pipeline.stages.audit import Audit

if TYPE_CHECKING:
    from pipeline.anatomy.brain import Regions


def regions_on(case: Case, image: Volume | Photograph, prepared: Prepared, audit: Audit) -> Regions | None:
    """Regions of an image on the model's grid.

    Parameters
    ----------
    case : Case
    image : Volume or Photograph
    prepared : Prepared
        Of that image.
    audit : Audit

    Returns
    -------
    Regions or None
        None where neither atlas nor the patient's own segmentation is given. Registrations are kept in the
        audit directory while it runs.

    Raises
    ------
    pipeline.errors.AuditError
        If the patient's own segmentation cannot be used.
    """
    if isinstance(image, Photograph):
        if audit.protocol.atlas is None:
            return None
        from pipeline.anatomy.retina_regions import retina_regions_on

        rows, columns = prepared.field.shape
        return retina_regions_on(image, prepared.native_from_model, (rows, columns))
    if prepared.affine is None or (audit.atlas is None and case.regions is None):
        return None
    from pipeline.anatomy.brain import regions_from, regions_of

    volume = Volume(prepared.tensor[0, 0].numpy(), prepared.affine, "prepared image")
    if case.regions is not None:
        from atlases import read_segmentation

        return regions_from(volume, read_segmentation(case.regions, case.regions_table))
    assert audit.atlas is not None
    return regions_of(volume, audit.atlas, cache=audit.folder / ".registrations")
