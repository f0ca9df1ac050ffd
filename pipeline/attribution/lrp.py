"""Layer-wise relevance propagation: the score, shared out backward over what computed it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.attribution.propagation.composites import Vocabulary, assign, check_gamma
from pipeline.attribution.propagation.rules import Rule, ZPlus
from pipeline.attribution.propagation.walk import Forward, Result, forward, walk_back
from pipeline.attribution.question import Answer, Question
from pipeline.attribution.registry import method, number
from pipeline.errors import MethodError
from pipeline.models.graph.captured import execute, needed_for

Bound = float | torch.Tensor | None


@dataclass(frozen=True, eq=False)
class Options:
    """Options of the LRP family.

    Attributes
    ----------
    composite : str
        Which rule where: a name of `pipeline.attribution.propagation.composites`.
    epsilon : float
        The stabiliser of every rule.
    gamma : float
        Of the γ rule.
    low, high : float, one per channel, or tensor
        Bounds of the image for z-box (default: each image's own minimum and maximum).
    rules : mapping
        Overrides the composite by depth, kind or module path.

    Raises
    ------
    pipeline.errors.MethodError
        If one cannot be used.
    """

    composite: str = "epsilon_plus_flat"
    epsilon: float = 1e-6
    gamma: float = 0.25
    low: Bound = None
    high: Bound = None
    rules: Mapping[int | str, Rule | str] | None = None

    def __post_init__(self) -> None:
        number("epsilon", self.epsilon, low=0)
        check_gamma(self.gamma)
        if self.rules is not None and not isinstance(self.rules, Mapping):
            raise MethodError(
                f"option rules={self.rules!r} is not known", "give a mapping of operation to rule"
            )


@method(
    "lrp",
    family="backpropagation",
    signed=True,
    class_discriminative=True,
    needs="a rule for every operation of the model",
    cost="1 forward + 1 walk back (about 3)",
    source="Bach et al. 2015, doi:10.1371/journal.pone.0130140",
    options_of=Options,
)
def lrp(question: Question, **options: Any) -> Answer:
    """Share out the target's logit. The seed is the logit itself, whatever its sign."""
    chosen = Options(**options)
    passed, rules = _prepared(question, chosen)
    seed = seed_of_score(question, passed.logits)
    return _answer(passed, seed, walk_back(passed, seed, rules, chosen.epsilon))


@method(
    "sglrp",
    family="backpropagation",
    signed=True,
    class_discriminative=True,
    needs="a rule for every operation of the model",
    cost="1 forward + 1 walk back (about 3)",
    source="Iwana et al. 2019, arXiv:1908.04351",
    odd=False,
    options_of=Options,
)
def sglrp(question: Question, **options: Any) -> Answer:
    """LRP from the gradient of the softmax: the target against its rivals, each by its probability.

    The seed p_t(1 − p_t) for the target and −p_t p_n for the others is divided by p_t(1 − p_t): 1 against
    the others' share among themselves, which no logit gap makes vanish. Its total is 0.
    """
    return _contrast(question, Options(**options), by_probability=True)


@method(
    "clrp",
    family="backpropagation",
    signed=True,
    class_discriminative=True,
    needs="a rule for every operation of the model",
    cost="1 forward + 1 walk back (about 3)",
    source="Gu et al. 2018, arXiv:1812.02100",
    odd=False,
    options_of=Options,
)
def clrp(question: Question, **options: Any) -> Answer:
    """LRP of the target's logit against all others, which share the same amount equally. Its total is 0."""
    return _contrast(question, Options(**options), by_probability=False)


def seed_of_score(question: Question, logits: torch.Tensor) -> torch.Tensor:
    """Relevance of the logits: the explained score at the target, 0 elsewhere."""
    score = question.explained(logits)
    if logits.shape[1] == 1:
        return score[:, None]
    return torch.zeros_like(logits).scatter_(1, question.targets[:, None], score[:, None])


def seed_against(
    question: Question, logits: torch.Tensor, *, by_probability: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Contrastive seed, and what of it stands on the constant logit 0 of a single-logit model.

    The size of the logit, not its sign, stands on the target: z⁺ at the classifier hands a seed on in
    proportion to what speaks for its class, so that a negative one would turn the whole map over.
    """
    single = logits.shape[1] == 1
    if single and not by_probability:
        own = torch.where(question.targets == 1, logits[:, 0].abs(), -logits[:, 0].abs())
        return own[:, None], -own
    both = torch.cat([torch.zeros_like(logits), logits], 1) if single else logits
    column = question.targets[:, None]
    if by_probability:
        rivals = torch.softmax(both.scatter(1, column, -torch.inf), 1)
        seed = (-rivals).scatter(1, column, 1.0)
    else:
        own = both.gather(1, column).abs()
        seed = (-own / (both.shape[1] - 1)).expand_as(both).scatter(1, column, own)
    return (seed[:, 1:], seed[:, 0]) if single else (seed, torch.zeros_like(seed[:, 0]))


def _contrast(question: Question, options: Options, *, by_probability: bool) -> Answer:
    """Walk back with z⁺ at the classifier: ε would divide by the rivals' logits and flip their signs."""
    passed, rules = _prepared(question, options)
    seed, rest = seed_against(question, passed.logits, by_probability=by_probability)
    last = next((op.name for op in reversed(passed.operations) if op.kind in {"linear", "convolution"}), "")
    result = walk_back(passed, seed, rules, options.epsilon, instead={last: ZPlus()})
    result = Result(result.relevance, result.bias + rest, result.absorbed)
    return _answer(passed, torch.cat([seed, rest[:, None]], 1), result)


def _prepared(question: Question, options: Options) -> tuple[Forward, dict[str, Rule]]:
    """Forward pass and rules: the same for every class."""

    def prepare() -> tuple[Forward, dict[str, Rule]]:
        for option, given in (("low", options.low), ("high", options.high)):
            if given is not None:  # also where the composite has no use for it
                _bound(option, given, question.images)
        passed = forward(question.graph, question.images)
        question.passed(passed.logits)
        vocabulary = Vocabulary(options.gamma, lambda: _bounds(question, passed, options.low, options.high))
        composite = vocabulary.composite(options.composite)
        return passed, assign(passed.operations, composite, options.rules, vocabulary)

    return question.once("lrp", prepare)


def _bounds(
    question: Question, passed: Forward, low: Bound, high: Bound
) -> tuple[torch.Tensor, torch.Tensor]:
    """Bounds of what the first weighted operation reads, from bounds of the image."""
    images, axes = question.images, tuple(range(1, question.images.ndim))
    ends = []
    for option, given, own in (("low", low, images.amin), ("high", high, images.amax)):
        end = own(axes, keepdim=True) if given is None else _bound(option, given, images)
        ends.append(end.expand_as(images))
    if bool((ends[0] > ends[1]).any()):
        raise MethodError("option low is above high", "give low ≤ high")
    first = next((op for op in passed.operations if op.kind in {"convolution", "linear"}), None)
    name = first.source("input") if first is not None else None
    if name is not None and name != passed.graph.source:
        seen = []
        for end in ends:
            values = {**passed.values, passed.graph.source: end}
            todo = needed_for(passed.operations, {passed.graph.source}, {name})
            with torch.no_grad():
                execute(todo, values, len(images), {name})
            seen.append(values[name])
        ends = [torch.minimum(*seen), torch.maximum(*seen)]
    return ends[0], ends[1]


def _bound(option: str, given: Any, images: torch.Tensor) -> torch.Tensor:
    unknown = MethodError(f"option {option}={given!r} is not known", "give a number or one per channel")
    try:
        value = torch.as_tensor(given, dtype=images.dtype, device=images.device)
    except (TypeError, ValueError, RuntimeError):
        raise unknown from None
    if value.ndim == 1 and len(value) == images.shape[1]:
        value = value.reshape(1, -1, *[1] * (images.ndim - 2))
    try:
        good = bool(torch.isfinite(value).all()) and value.expand_as(images) is not None
    except RuntimeError:
        good = False
    if not good:
        raise unknown
    return value


def _answer(passed: Forward, seed: torch.Tensor, result: Result) -> Answer:
    axes = tuple(range(1, result.relevance.ndim))
    total, size = seed.sum(1), seed.abs().sum(1)
    gap = (total - result.relevance.sum(axes) - result.bias - result.absorbed).abs()
    return Answer(
        values=result.relevance,
        logits=passed.logits,
        conservation_error=torch.where(size > 0, gap / size, gap),
        bias_share=torch.where(size > 0, result.bias / size, 0),
        each={"absorbed": result.absorbed.tolist()},
    )
