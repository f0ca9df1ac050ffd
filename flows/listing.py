"""What there is: attribution methods and atlases."""

from __future__ import annotations

from collections.abc import Iterator


def method_lines() -> Iterator[str]:
    """One line a method: name, family, cost, what it needs, source."""
    from pipeline.attribution import METHODS

    for name, card in METHODS.items():
        marks = ", ".join(
            word
            for word, holds in (("signed", card.signed), ("class-discriminative", card.class_discriminative))
            if holds
        )
        yield f"{name:20} {card.title}; {card.family}; {marks or 'unsigned'}; cost {card.cost}; {card.needs}; {card.source}"


def atlas_lines() -> Iterator[str]:
    """One line an atlas: name, space, licence, source."""
    from atlases import ATLASES

    for name, card in ATLASES.items():
        use = "commercial use allowed" if card.commercial else "non-commercial use only"
        yield f"{name:20} {card.space}; {card.licence}; {use}; {card.source}"
