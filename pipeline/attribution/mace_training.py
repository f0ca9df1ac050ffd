"""Training MACE on a cohort: the images pass through the model once, their activations many times."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from pipeline.attribution.mace_bridge import Bridge, batches, find_bridge
from pipeline.attribution.mace_concepts import fidelity_of, same_decisions
from pipeline.attribution.mace_network import ConceptNetwork, semi_hard_triplets
from pipeline.attribution.mace_state import MaceState, weights_hash
from pipeline.attribution.registry import number
from pipeline.errors import MethodError
from pipeline.models.graph import capture

Progress = Callable[[int, int, float], None]
"""Called after each epoch with its number (from 1), the number of epochs and the mean loss."""

_TRIPLET_WEIGHT = 0.1
_FEWEST = 10
_COUNTS = {"concepts": 2, "epochs": 1, "batch_size": 1, "stage": 0}  # and the least of each


@dataclass(frozen=True, eq=False)
class SeenCohort:
    """What the model computed for a cohort, kept for training: nothing of the images themselves.

    Attributes
    ----------
    bridge : Bridge
    activation : torch.Tensor, shape (N, K, *grid)
    vector : torch.Tensor, shape (N, width)
        What is to be reproduced.
    decisions : torch.Tensor of bool, shape (N, classes)
    """

    bridge: Bridge
    activation: torch.Tensor
    vector: torch.Tensor
    decisions: torch.Tensor

    def __getitem__(self, index: torch.Tensor) -> SeenCohort:
        return SeenCohort(self.bridge, self.activation[index], self.vector[index], self.decisions[index])

    def __len__(self) -> int:
        return len(self.activation)


def fit_mace(
    model: nn.Module,
    images: torch.Tensor | Iterable[torch.Tensor],
    labels: Sequence[int] | torch.Tensor | None = None,
    *,
    concepts: int = 10,
    stage: int = 0,
    epochs: int = 200,
    learning_rate: float = 1e-4,
    batch_size: int = 32,
    held_out: float = 0.2,
    exclusive: bool | None = None,
    patients: Sequence[Hashable] | None = None,
    seed: int = 0,
    progress: bool | Progress = False,
) -> MaceState:
    """Learn concepts from which the model's decisions can be made again.

    The loss is the mean squared error to the model's own activation (relative to its variance over the
    cohort) + cross-entropy of the frozen rest's answer with the model's decision + binary cross-entropy of
    each class's relevance + 0.1 · triplet loss (margin 1, semi-hard), which draws one concept's embeddings
    in different images of its class together; Adam.

    Parameters
    ----------
    model : torch.nn.Module
        Left as it is; 2D or 3D, one logit or more.
    images : torch.Tensor, shape (N, C, *spatial), or iterable of such batches
        A cohort like the one to be explained. Each image is seen once; its activation is kept in memory
        (4 bytes × channels × cells an image).
    labels : sequence of int, optional
        Class of each image, for relevance and triplets. By default the model's own decisions, which is what
        an explanation of the model asks for.
    concepts : int
        Concepts a class.
    stage : int
        0 reads the last spatial activation, 1 the last on the next finer grid …
    held_out : float
        Share of the images, of each decision, on which nothing is learnt and fidelity is measured.
    patients : sequence, optional
        Whose image each is: all of one patient are learnt from, or none.
    exclusive : bool, optional
        Whether the model decides for one class; False for outputs that stand each for itself (presence of
        several findings, ordinal thresholds). By default False for several sigmoid outputs.
    progress : bool or callable
        True shows a bar; a callable gets (epoch, epochs, loss).

    Raises
    ------
    pipeline.errors.MethodError
        If there are too few images, or the model decides the same for all of them.

    References
    ----------
    Kumar et al. 2020, arXiv:2011.01472
    """
    seen = look_once(model, images, stage=stage, exclusive=exclusive)
    apart = hold_out(seen, held_out, seed, patients)
    return learn_concepts(
        seen,
        apart,
        labels,
        concepts=concepts,
        stage=stage,
        epochs=epochs,
        learning_rate=learning_rate,
        batch_size=batch_size,
        seed=seed,
        progress=progress,
    )


def look_once(
    model: nn.Module,
    images: torch.Tensor | Iterable[torch.Tensor],
    *,
    stage: int = 0,
    exclusive: bool | None = None,
) -> SeenCohort:
    """Pass every image through the model, once, and keep what training needs; as in `fit_mace`."""
    bridge: Bridge | None = None
    kept: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    for batch in batches(model, images):
        if bridge is None:
            bridge = find_bridge(capture(model, batch), stage, exclusive=exclusive)
        if tuple(batch.shape[2:]) != bridge.graph.spatial:
            raise MethodError("images of the cohort differ in shape", "bring them on one grid first")
        activation, vector, class_scores = bridge.look(batch)
        kept.append((activation.float(), vector.float(), bridge.decisions(class_scores)))
    if bridge is None:
        raise MethodError("the cohort holds no images", "give at least some twenty")
    activation, vector, decisions = (torch.cat(part) for part in zip(*kept, strict=True))
    if len(decisions) < _FEWEST or bool((decisions == decisions[0]).all()):
        raise MethodError(
            f"the model decides the same for all {len(decisions)} images, or there are fewer than {_FEWEST}",
            "give a larger cohort, with cases of every class",
        )
    return SeenCohort(bridge, activation, vector, decisions)


def hold_out(
    seen: SeenCohort, share: float, seed: int, patients: Sequence[Hashable] | None = None
) -> torch.Tensor:
    """Mark whole patients of each decision (that of their first image), at least one where there are three.

    Returns
    -------
    torch.Tensor of bool, shape (N,)
        Images on which nothing is to be learnt.
    """
    number("held_out", share, low=0.05, high=0.5)
    names = list(range(len(seen))) if patients is None else list(patients)
    if len(names) != len(seen):
        raise MethodError(f"{len(names)} patients for {len(seen)} images", "give one patient an image")
    first = {name: i for i, name in reversed(list(enumerate(names)))}
    owners = sorted(first, key=first.__getitem__)
    kinds = torch.unique(seen.decisions.cpu()[[first[name] for name in owners]], dim=0, return_inverse=True)[
        1
    ]
    generator = torch.Generator().manual_seed(seed)
    chosen: set[Hashable] = set()
    for kind in kinds.unique():
        members = torch.nonzero(kinds == kind)[:, 0]
        count = max(round(share * len(members)), int(len(members) > 2))
        drawn = members[torch.randperm(len(members), generator=generator)[:count]]
        chosen |= {owners[i] for i in drawn.tolist()}
    apart = torch.tensor([name in chosen for name in names])
    if bool(apart.all()) or not bool(apart.any()):
        raise MethodError("the cohort has too few patients to hold some out", "give a larger cohort")
    return apart.to(seen.decisions.device)


def learn_concepts(
    seen: SeenCohort,
    apart: torch.Tensor,
    labels: Sequence[int] | torch.Tensor | None = None,
    *,
    concepts: int = 10,
    stage: int = 0,
    epochs: int = 200,
    learning_rate: float = 1e-4,
    batch_size: int = 32,
    seed: int = 0,
    progress: bool | Progress = False,
) -> MaceState:
    """Train on the images that are not `apart`, and measure fidelity on those that are; as in `fit_mace`."""
    check_training(
        {"concepts": concepts, "epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate}
    )
    bridge, learnt, unseen = seen.bridge, seen[~apart], seen[apart]
    wanted = seen.decisions if labels is None else _label_rows(labels, seen.decisions)
    with torch.random.fork_rng(devices=[]), torch.inference_mode(mode=False):
        torch.manual_seed(seed)
        network = _network(learnt, concepts).to(seen.activation.device)
        with torch.enable_grad(), _shown(progress, epochs) as show:
            _train(network, learnt, wanted[~apart], epochs, learning_rate, batch_size, show)
    state = MaceState(
        weights={k: v.detach().cpu().clone() for k, v in network.state_dict().items()},
        channels=seen.activation.shape[1],
        grid=bridge.layer.grid,
        classes=bridge.classes,
        concepts=concepts,
        width=seen.vector.shape[1],
        spatial=bridge.graph.spatial,
        stage=stage,
        exclusive=bridge.exclusive,
        model=weights_hash(bridge.graph),
        seed=seed,
        epochs=epochs,
        images=len(learnt),
    )
    same = same_decisions(bridge, state, unseen.activation, unseen.decisions)
    return replace(state, fidelity=fidelity_of(same, unseen.decisions))


def _label_rows(labels: Sequence[int] | torch.Tensor, decisions: torch.Tensor) -> torch.Tensor:
    given = torch.as_tensor(labels)
    good = given.shape == (len(decisions),) and not given.is_floating_point()
    if not good or bool(((given < 0) | (given >= decisions.shape[1])).any()):
        raise MethodError(
            f"labels do not fit {len(decisions)} images and {decisions.shape[1]} classes",
            "one class an image",
        )
    return functional.one_hot(given.long(), decisions.shape[1]).bool().to(decisions.device)


def _network(cohort: SeenCohort, concepts: int) -> ConceptNetwork:
    channels, width = cohort.activation.shape[1], cohort.vector.shape[1]
    network = ConceptNetwork(channels, cohort.bridge.layer.grid, cohort.bridge.classes, concepts, width)
    size = cohort.activation.transpose(0, 1).flatten(1).square().mean(1).sqrt()
    network.scale.copy_(size.clamp(min=1e-6 * float(size.max())))
    network.centre.copy_(cohort.vector.mean(0))
    spread = cohort.vector.std(0)
    network.spread.copy_(spread.clamp(min=1e-6 * float(spread.max())))
    return network


def _train(
    network: ConceptNetwork,
    cohort: SeenCohort,
    labels: torch.Tensor,
    epochs: int,
    learning_rate: float,
    batch_size: int,
    show: Progress,
) -> None:
    optimiser = torch.optim.Adam(network.parameters(), lr=learning_rate)
    for epoch in range(epochs):
        total = 0.0
        order = torch.randperm(len(cohort), device=cohort.activation.device)
        for index in torch.split(order, batch_size):
            loss = _loss(network, cohort[index], labels[index])
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            total += float(loss.detach()) * len(index)
        show(epoch + 1, epochs, total / len(cohort))


def _loss(network: ConceptNetwork, batch: SeenCohort, labels: torch.Tensor) -> torch.Tensor:
    bridge = batch.bridge
    found = network(batch.activation)
    difference = (found.vector - batch.vector) / network.spread
    class_scores = bridge.rest(found.vector).float()
    decided = batch.decisions.float()
    answer = (
        functional.cross_entropy(class_scores, decided)
        if bridge.exclusive
        else functional.binary_cross_entropy_with_logits(class_scores, decided)
    )
    relevance = functional.binary_cross_entropy_with_logits(found.relevance, labels.float())
    own = found.embeddings[labels].flatten(0, 1)  # concepts of the classes an image belongs to
    class_of = torch.nonzero(labels)[:, 1]
    names = class_of[:, None] * network.concepts + torch.arange(network.concepts, device=class_of.device)
    triplets = semi_hard_triplets(own, names.flatten())
    loss: torch.Tensor = difference.square().mean() + answer + relevance + _TRIPLET_WEIGHT * triplets
    return loss


@contextmanager
def _shown(progress: bool | Progress, epochs: int) -> Iterator[Progress]:
    """Make a function to call after each epoch."""
    if callable(progress):
        yield progress
    elif not progress:
        yield lambda _epoch, _epochs, _loss: None
    else:
        import sys

        from rich.console import Console
        from rich.progress import Progress as Bar

        with Bar(transient=True, console=Console(file=sys.stderr)) as bar:
            task = bar.add_task("MACE", total=epochs)

            def show(epoch: int, _epochs: int, loss: float) -> None:
                bar.update(task, completed=epoch, description=f"MACE, loss {loss:.3f}")

            yield show


def check_training(options: Mapping[str, Any]) -> None:
    """Refuse options of `fit_mace` that it does not have or cannot use, before anything is computed.

    Raises
    ------
    pipeline.errors.MethodError
    """
    for name, value in options.items():
        if name in _COUNTS:
            if isinstance(value, bool) or not isinstance(value, int) or value < _COUNTS[name]:
                raise MethodError(
                    f"option {name}={value!r} is not a count", f"give a whole number from {_COUNTS[name]}"
                )
        elif name == "learning_rate":
            number(name, value, low=0, above=True)
        elif name == "held_out":
            number(name, value, low=0.05, high=0.5)
        else:
            known = ", ".join(sorted([*_COUNTS, "learning_rate", "held_out"]))
            raise MethodError(f"method 'mace' has no option {name!r}", f"its options are: {known}")
