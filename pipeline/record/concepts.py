"""What MACE learnt on the cohort of an audit, how faithful it is, and what it shows in single cases."""

from __future__ import annotations

from pydantic import Field

from pipeline.record.parts import Figure, Part


class ConceptRow(Part):
    """One concept of one class in one case.

    Attributes
    ----------
    target : int
        The class whose concept it is.
    concept : int
        Its number within the class.
    relevance : float
        Its term of the class's relevance logit.
    effect : float
        By how much the class score falls without it.
    array : str
        Name of the mask of what it shows in `cases/<case>.npz`; empty for all but the most relevant that show
        anywhere (a concept whose map is empty adds the same in every place, like a bias).
    agrees : bool
        Whether the model made of concepts decides this case as the model does.
    """

    target: int
    concept: int
    relevance: float
    effect: float
    array: str = ""
    agrees: bool = True


class ConceptLearning(Part):
    """What was learnt from the cohort, once.

    Attributes
    ----------
    refused : str
        Why there are no concepts; empty if there are some.
    faithful : bool
        Whether they may be shown: agreement of at least 0.9 with the model on held-out images, and more than
        a constant answer would reach.
    fidelity : Figure
        Share of held-out cases that the model made of concepts decides as the model does, by patient.
    majority : float or None
        What always giving the model's most frequent answer would reach there.
    deletion : Figure
        Held-out cases: fall of the predicted class's score without its most relevant concept, minus the mean
        fall without another of its concepts.
    top, other : float or None
        Means of both sides of that difference.
    concepts : int
        Of each class.
    learnt_from, held_out : list of str
        Cases.
    seconds : float
        Of the training.
    """

    refused: str = ""
    faithful: bool = False
    fidelity: Figure = Field(default_factory=Figure)
    majority: float | None = None
    deletion: Figure = Field(default_factory=Figure)
    top: float | None = None
    other: float | None = None
    concepts: int = 0
    learnt_from: list[str] = Field(default_factory=list)
    held_out: list[str] = Field(default_factory=list)
    seconds: float = 0.0


class ConceptFindings(ConceptLearning):
    """What was learnt, and the concepts that the report shows.

    Attributes
    ----------
    shown : dict of str to list of ConceptRow
        Case → its most relevant concepts, most relevant first, the predicted class before the true one.
    """

    shown: dict[str, list[ConceptRow]] = Field(default_factory=dict)
