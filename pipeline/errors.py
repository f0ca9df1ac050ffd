"""Every refusal of relevance-audit: one line that names what, why and the remedy."""

from __future__ import annotations


class AuditError(Exception):
    """A refusal: what is wrong and what to do about it, in one line.

    Parameters
    ----------
    problem : str
        What is wrong, naming the file, case or operation.
    remedy : str, optional
        What the reader can do about it.

    Examples
    --------
    >>> str(AuditError("scan.nii: the image is constant", "export it again"))
    'scan.nii: the image is constant; export it again'
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        self.problem = " ".join(problem.split())
        self.remedy = " ".join(remedy.split())
        super().__init__(f"{self.problem}; {self.remedy}" if self.remedy else self.problem)

    def __reduce__(self) -> tuple[type[AuditError], tuple[str, str]]:
        """Travel between processes with both parts."""
        return type(self), (self.problem, self.remedy)


class ImageError(AuditError):
    """An image or mask that cannot be used."""


class CohortError(AuditError):
    """A cohort table that cannot be used."""


class ProtocolError(AuditError):
    """A protocol that says something impossible."""


class ModelError(AuditError):
    """A model that cannot be opened or does not fit its input."""


class AnatomyError(AuditError):
    """An atlas or anatomy that cannot be trusted."""


class MethodError(AuditError):
    """A method, option or target that does not apply to this model."""


class UnsupportedOperationError(MethodError):
    """An operation of the model for which a method has no rule."""


class RecordError(AuditError):
    """An audit directory that is incomplete, changed or not one at all."""
