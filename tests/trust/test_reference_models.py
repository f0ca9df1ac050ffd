"""Randomisation tells maps of the model from maps of the image, as Adebayo et al. 2018 report."""

import numpy as np
import pytest

from pipeline.models.opening import open_model
from pipeline.phantoms.brain import brain_phantom
from pipeline.stages.twins import batched
from pipeline.trust.faithfulness import Deleting
from pipeline.trust.maps import Price, maps_of
from pipeline.trust.randomisation import CASCADES, cascade, left_over_draws
from pipeline.trust.similarity import rank_correlation

METHODS = ("gradient", "grad_cam", "guided_backprop")


@pytest.fixture(scope="module")
def brains():
    model = open_model("alzheimer")
    volumes = [brain_phantom(9_000_000 + n, severity).volume for n, severity in enumerate((0.1, 0.8))]
    return model.module, [model.prepare(volume) for volume in volumes]


@pytest.mark.long
def test_guided_backprop_is_left_where_gradient_and_grad_cam_are_gone(brains):
    module, prepared = brains
    batches = batched([p.tensor for p in prepared])

    def maps(network):
        return {m: [maps_of(network, p.tensor, 1, m, {}, Price())[0] for p in prepared] for m in METHODS}

    def likeness(one, other):
        return [abs(rank_correlation(a, b, p.field)) for a, b, p in zip(one, other, prepared, strict=True)]

    trained = maps(module)
    alike, last = {m: [] for m in METHODS}, {m: [] for m in METHODS}
    for draw in range(CASCADES):
        for m in METHODS:
            alike[m].append([])
        for stage, network in cascade(module, batches, seed=3 + draw):
            if not stage.counts:
                continue
            made = maps(network)
            for m in METHODS:
                alike[m][-1].append(likeness(trained[m], made[m]))
        for m in METHODS:
            last[m].append(made[m])
    left = {}
    for m in METHODS:
        pairs = np.array([[likeness(a, b) for b in last[m]] for a in last[m]])
        left[m] = left_over_draws(alike[m], pairs)[0].mean()
    assert left["gradient"] < 0.25
    assert left["grad_cam"] < 0.25
    assert left["guided_backprop"] > max(left["gradient"], left["grad_cam"]) + 0.05


@pytest.mark.long
def test_deletion_by_the_sound_model_s_own_maps_beats_random_order(brains):
    module, prepared = brains
    for number, p in enumerate(prepared):
        work = Deleting(module, p.tensor, p.field, 1, patches=200, price=Price(), seed=number)
        for method in ("lrp", "grad_cam"):
            curves = work.curves(maps_of(module, p.tensor, 1, method, {}, Price())[0])
            assert curves.over_random > 0, method
            assert curves.over_reverse > 0, method
