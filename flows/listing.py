"""What there is: attribution methods and atlases."""

from __future__ import annotations

from collections.abc import Iterator


def method_lines() -> Iterator[str]:
    """One line a method: name, family, cost, what it needs, source."""
    from pipeline.attribution import METHODS

    for name, card in METHODS.items():
        traits = ["signed" if card.signed else "unsigned"]
        if card.class_discriminative:
            traits.append("class-discriminative")
        facts = (card.title, card.family, ", ".join(traits), f"cost {card.cost}", card.needs, card.source)
        yield f"{name:20} {'; '.join(facts)}"


def atlas_lines() -> Iterator[str]:
    """One line an atlas: name, space, licence, source."""
    from atlases import ATLASES

    for name, card in ATLASES.items():
        use = "commercial use allowed" if card.commercial else "non-commercial use only"
        yield f"{name:20} {card.space}; {card.licence}; {use}; {card.source}"
