"""Which rule goes where: composites by name, and own rules by operation or depth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch

import torch

from pipeline.attribution.propagation.rules import AlphaBeta, Epsilon, Flat, Gamma, Rule, WSquare, ZBox, ZPlus
from pipeline.attribution.registry import number
from pipeline.errors import MethodError
from pipeline.models.graph.operation import Operation

COMPOSITES = ("epsilon_plus_flat", "epsilon", "epsilon_gamma_box", "epsilon_alpha2_beta1")
RULES = ("epsilon", "gamma", "z_plus", "alpha2_beta1", "alpha1_beta0", "w_square", "flat", "z_box")
WEIGHTED = frozenset({"convolution", "linear"})


@dataclass(frozen=True)
class Composite:
    """A rule by position.

    Attributes
    ----------
    first : Rule
        Of weighted operations with no other weighted operation between them and the image.
    convolution, linear : Rule
        Of all others.
    """

    first: Rule
    convolution: Rule
    linear: Rule


@dataclass(frozen=True)
class Vocabulary:
    """The rules that names stand for, with their parameters.

    Attributes
    ----------
    gamma : float
    bounds : callable
        Gives low and high of what the first weighted operation reads (z-box).
    """

    gamma: float
    bounds: Callable[[], tuple[torch.Tensor, torch.Tensor]]

    def rule(self, name: str) -> Rule:
        """Rule of that name.

        Raises
        ------
        pipeline.errors.MethodError
            If there is none.
        """
        if name == "z_box":
            return ZBox(*self.bounds())
        table: dict[str, Rule] = {
            "epsilon": Epsilon(),
            "gamma": Gamma(self.gamma),
            "z_plus": ZPlus(),
            "alpha2_beta1": AlphaBeta(2.0, 1.0),
            "alpha1_beta0": AlphaBeta(1.0, 0.0),
            "w_square": WSquare(),
            "flat": Flat(),
        }
        if name not in table:
            raise MethodError(f"rule {name!r} is not known", f"use one of {', '.join(RULES)}")
        return table[name]

    def composite(self, name: str) -> Composite:
        """Composite of that name.

        Raises
        ------
        pipeline.errors.MethodError
            If there is none.
        """
        names = {
            "epsilon": ("epsilon", "epsilon", "epsilon"),
            "epsilon_plus_flat": ("flat", "z_plus", "epsilon"),
            "epsilon_gamma_box": ("z_box", "gamma", "epsilon"),
            "epsilon_alpha2_beta1": ("alpha2_beta1", "alpha2_beta1", "epsilon"),
        }
        if name not in names:
            raise MethodError(f"composite {name!r} is not known", f"use one of {', '.join(COMPOSITES)}")
        return Composite(*(self.rule(rule) for rule in names[name]))


def assign(
    operations: Sequence[Operation],
    composite: Composite,
    own: Mapping[int | str, Rule | str] | None,
    vocabulary: Vocabulary,
) -> dict[str, Rule]:
    """Give every weighted operation its rule.

    Parameters
    ----------
    operations : sequence of Operation
        In the order of computation.
    composite : Composite
    own : mapping, optional
        Overrides, later entries win. Key: the depth among weighted operations (0 is next to the image, −1
        the last), a kind (`"convolution"`, `"linear"`), or a pattern of module paths (`"layer4.*"`). Value: a
        rule or its name.
    vocabulary : Vocabulary

    Returns
    -------
    dict
        Operation name → rule.

    Raises
    ------
    pipeline.errors.MethodError
        If an entry of `own` names no operation or no rule.
    """
    weighted = [op for op in operations if op.kind in WEIGHTED]
    below: set[str] = set()  # depends on a weighted operation
    rules: dict[str, Rule] = {}
    for op in operations:
        deep = any(name.partition(":")[0] in below for name in op.inputs)
        if op.kind in WEIGHTED:
            rules[op.name] = getattr(composite, op.kind) if deep else composite.first
        if deep or op.kind in WEIGHTED:
            below.add(op.name)
    for key, value in (own or {}).items():
        rule = vocabulary.rule(value) if isinstance(value, str) else value
        if not callable(rule):
            raise MethodError(f"rule {value!r} is not known", f"use one of {', '.join(RULES)}")
        chosen = _chosen(weighted, key)
        if not chosen:
            raise MethodError(
                f"rules: {key!r} is no weighted operation of this model",
                f"use a depth from 0 to {len(weighted) - 1}, a kind or a module path such as "
                f"{weighted[-1].place.split(',')[0]!r}",
            )
        rules |= dict.fromkeys((op.name for op in chosen), rule)
    return rules


def _chosen(weighted: Sequence[Operation], key: object) -> list[Operation]:
    if isinstance(key, int) and not isinstance(key, bool):
        return [weighted[key]] if -len(weighted) <= key < len(weighted) else []
    text = str(key)
    return [op for op in weighted if op.kind == text or fnmatch(op.place.split(",")[0], text)]


def check_gamma(gamma: object) -> float:
    """Return γ, a number from 0."""
    return number("gamma", gamma, low=0)
