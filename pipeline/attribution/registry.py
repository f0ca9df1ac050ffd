"""The table of methods: each family module announces its own with `@method(...)`."""

from __future__ import annotations

import inspect
import math
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pipeline.errors import MethodError

if TYPE_CHECKING:
    from pipeline.attribution.question import Answer

ORDER = (
    *(
        "occlusion",
        "region_occlusion",
        "gradient",
        "guided_backprop",
        "lrp",
        "sglrp",
        "clrp",
        "cam",
        "grad_cam",
    ),
    *("grad_cam++", "guided_grad_cam", "mace", "integrated_gradients", "smooth_grad", "input_x_gradient"),
)


@dataclass(frozen=True)
class MethodCard:
    """What a reader and a scheduler have to know of a method.

    Attributes
    ----------
    name, family : str
        Family: `"perturbation"`, `"backpropagation"`, `"activation"` or `"concepts"`.
    signed : bool
        Whether negative values mean evidence against the target.
    class_discriminative : bool
        Whether it claims that the map of a class lies on that class's evidence.
    needs : str
        What model and caller must provide.
    cost : str
        In forward passes of the model.
    source : str
        The paper.
    options : mapping
        Option name → default.
    compute : callable
        `compute(question, **options) -> Answer`.
    odd : bool
        Whether the negated score has the negated map, with the options as they are by default.
    """

    name: str
    family: str
    signed: bool
    class_discriminative: bool
    needs: str
    cost: str
    source: str
    options: Mapping[str, Any]
    compute: Callable[..., Answer]
    odd: bool = True

    def turns_over(self, options: Mapping[str, Any]) -> bool:
        """Whether the map of the negated score is the negated map, with these options.

        Guided maps, for one, are not: a rectifier in the backward pass lets other things through then. Nor
        is a map without negative values.
        """
        sizes = options.get("relu", False) or options.get("colour", "signed") in {"max_abs", "sum_abs"}
        return self.odd and not sizes

    @property
    def title(self) -> str:
        """The method's name as papers write it."""
        return _TITLES.get(self.name, self.name.replace("_", " "))


_TITLES = {
    "guided_backprop": "guided backpropagation",
    "lrp": "LRP",
    "sglrp": "softmax-gradient LRP",
    "clrp": "contrastive LRP",
    "cam": "CAM",
    "grad_cam": "Grad-CAM",
    "grad_cam++": "Grad-CAM++",
    "guided_grad_cam": "guided Grad-CAM",
    "mace": "MACE",
    "smooth_grad": "SmoothGrad",
    "input_x_gradient": "input × gradient",
}

_cards: dict[str, MethodCard] = {}


def method(
    name: str,
    *,
    family: str,
    signed: bool,
    class_discriminative: bool,
    needs: str,
    cost: str,
    source: str,
    options_of: Callable[..., Any] | None = None,
    odd: bool = True,
) -> Callable[[Callable[..., Answer]], Callable[..., Answer]]:
    """Announce `compute(question, *, option=default, …) -> Answer` as a method with those options.

    Where several methods have the same options, `options_of` is the class that holds them.
    """

    def announce(compute: Callable[..., Answer]) -> Callable[..., Answer]:
        keywords = inspect.signature(options_of or compute).parameters.values()
        options = {p.name: p.default for p in keywords if options_of or p.kind is p.KEYWORD_ONLY}
        _cards[name] = MethodCard(
            name, family, signed, class_discriminative, needs, cost, source, options, compute, odd
        )
        return compute

    return announce


class _Methods(Mapping[str, MethodCard]):
    """Method name → card; the family modules are imported at the first look."""

    def __init__(self) -> None:
        self._complete = False

    def _all(self) -> dict[str, MethodCard]:
        if not self._complete:
            from pipeline import attribution

            for module in pkgutil.iter_modules(attribution.__path__):
                import_module(f"{attribution.__name__}.{module.name}")
            ordered = sorted(_cards, key=lambda n: (ORDER.index(n) if n in ORDER else len(ORDER), n))
            for name in ordered:
                _cards[name] = _cards.pop(name)
            self._complete = True
        return _cards

    def __getitem__(self, name: str) -> MethodCard:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __repr__(self) -> str:
        return f"METHODS({', '.join(self)})"


METHODS: Mapping[str, MethodCard] = _Methods()


def card_of(name: str) -> MethodCard:
    """Card of a method.

    Raises
    ------
    pipeline.errors.MethodError
        If there is no such method.
    """
    if name not in METHODS:
        raise MethodError(f"unknown method {name!r}", f"use one of {', '.join(METHODS)}")
    return METHODS[name]


def check_options(card: MethodCard, given: Mapping[str, Any]) -> dict[str, Any]:
    """Options in force: the card's defaults and what was given; `output`, which all have, is only checked.

    Raises
    ------
    pipeline.errors.MethodError
        If an option is unknown to the method.
    """
    given = dict(given)
    choice("output", given.pop("output", "logit"), ("logit", "probability"))
    unknown = [name for name in given if name not in card.options]
    if unknown:
        known = ", ".join(sorted(card.options)) or "none"
        raise MethodError(
            f"method {card.name!r} has no option {', '.join(map(repr, unknown))}",
            f"its options are: output, {known}",
        )
    return {**card.options, **given}


def choice(option: str, value: object, allowed: tuple[object, ...]) -> None:
    """Refuse an option value that is not among those allowed.

    Raises
    ------
    pipeline.errors.MethodError
    """
    if not any(value is a or (type(value) is type(a) and value == a) for a in allowed):
        raise MethodError(
            f"option {option}={value!r} is not known", f"use one of {', '.join(map(repr, allowed))}"
        )


def number(
    option: str, value: object, *, low: float = float("-inf"), high: float = float("inf"), above: bool = False
) -> float:
    """Return a finite number within limits, as float (`above`: strictly above `low`).

    Raises
    ------
    pipeline.errors.MethodError
    """
    good = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
    good = good and math.isfinite(value)  # type: ignore[arg-type]
    if not good or (above and value == low):
        limits = f"{'above' if above else 'from'} {low:g}" + (f" to {high:g}" if high != float("inf") else "")
        raise MethodError(f"option {option}={value!r} is not a valid number", f"give a number {limits}")
    return float(value)  # type: ignore[arg-type]
