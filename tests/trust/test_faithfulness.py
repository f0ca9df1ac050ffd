"""Deletion curves: against a slow reference, and what must hold where the truth is known."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pipeline.errors import AuditError
from pipeline.trust.faithfulness import (
    Deleting,
    aopc,
    blurred_inside,
    patch_relevance,
    patch_side,
    patches_of,
)
from pipeline.trust.maps import Price


class Sums(nn.Module):
    """A model whose logit is a weighted sum of its pixels."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x):
        total = (x * self.weight).flatten(1).sum(1)
        return torch.stack([-total, total], 1)


def disc(size=24):
    axis = np.arange(size) - (size - 1) / 2
    return np.hypot(*np.meshgrid(axis, axis)) < size * 0.45


def setting(seed=0, size=24, dims=2):
    generator = torch.Generator().manual_seed(seed)
    shape = (1, 2, *[size] * dims)
    image = torch.rand(shape, generator=generator, dtype=torch.float64)
    weight = torch.randn(shape[1:], generator=generator, dtype=torch.float64)
    field = disc(size) if dims == 2 else np.ones([size] * dims, bool)
    return Sums(weight).double(), image, field


@pytest.mark.parametrize("dims", [2, 3])
def test_curves_are_those_of_a_slow_reference(dims):
    model, image, field = setting(size=24 if dims == 2 else 8, dims=dims)
    price = Price()
    work = Deleting(model, image, field, 1, patches=60, price=price, steps=5, orders=2, seed=3)
    relevance = np.random.default_rng(1).normal(size=field.shape)
    curves = work.curves(relevance)
    assert price.passes == 2 + 4 * (2 + 2)

    means = {}
    for number in range(work.count):
        cells = [tuple(c) for c in np.argwhere(work.labels == number)]
        means[number] = sum(relevance[c] for c in cells) / len(cells)
    fill = blurred_inside(image, field)
    falling = sorted(means, key=lambda n: -means[n])
    for order, found in ((falling, curves.most_first), (falling[::-1], curves.least_first)):
        for step in range(6):
            deleted = set(order[: round(work.count * step / 5)])
            changed = image.clone()
            for where in np.ndindex(*field.shape):
                if work.labels[where] in deleted:
                    changed[(0, slice(None), *where)] = fill[(0, slice(None), *where)]
            total = float((changed[0] * model.weight.detach()).sum())
            assert found[step] == pytest.approx(total, abs=1e-9)
    falls = [curves.most_first[0] - value for value in curves.most_first]
    assert curves.deletion == pytest.approx(sum(falls) / 6, abs=1e-9)
    chance = [sum(row[0] - value for value in row) / 6 for row in curves.random]
    assert curves.over_random == pytest.approx(sum(falls) / 6 - sum(chance) / 2, abs=1e-9)


@settings(max_examples=8)  # each captures a model of its own
@given(st.integers(0, 1000))
def test_the_true_contributions_delete_best(seed):
    """For a sum of pixels the fall of a patch is known: no order can beat that of the falls."""
    model, image, field = setting(seed)
    work = Deleting(model, image, field, 1, patches=60, price=Price(), steps=6, orders=4, seed=seed)
    falls = ((image - work.fill) * model.weight.detach()).sum(1)[0].numpy()
    size = np.bincount(work.labels[work.labels >= 0])
    per_patch = np.where(work.labels >= 0, size[work.labels], 0)
    truth = work.curves(falls * per_patch)  # mean times size squared: patches at the border are smaller
    exact = np.bincount(work.labels[work.labels >= 0], falls[work.labels >= 0])
    assert truth.over_random > 0
    assert truth.over_reverse > truth.over_random
    assert truth.insertion_over_random > 0
    best = np.sort(exact)[::-1]
    steps = [round(work.count * k / 6) for k in range(7)]
    ideal = np.mean([best[:k].sum() for k in steps])
    assert truth.deletion <= ideal + 1e-9
    assert truth.deletion > 0.9 * ideal
    wrong = work.curves(-falls * per_patch)
    assert wrong.over_random < 0
    assert wrong.over_reverse == pytest.approx(-truth.over_reverse, abs=1e-9)


def test_inserting_the_most_relevant_first_passes_through_the_same_images():
    model, image, field = setting()
    work = Deleting(model, image, field, 0, patches=60, price=Price(), steps=4, seed=0)
    relevance = np.random.default_rng(2).normal(size=field.shape)
    curves = work.curves(relevance)
    order = np.argsort(-patch_relevance(relevance, work.labels))
    for step, logit in enumerate(curves.insertion):
        # counted from the end, as deletion is
        put_back = order[: work.count - round(work.count * (4 - step) / 4)]
        mask = torch.from_numpy(np.isin(work.labels, put_back) | (work.labels < 0))
        shown = torch.where(mask, image, work.fill)
        assert logit == pytest.approx(-float((shown[0] * model.weight.detach()).sum()), abs=1e-9)


def test_random_orders_are_shared_by_all_maps_and_repeatable():
    model, image, field = setting()
    first = Deleting(model, image, field, 1, patches=60, price=Price(), seed=5)
    again = Deleting(model, image, field, 1, patches=60, price=Price(), seed=5)
    other = Deleting(model, image, field, 1, patches=60, price=Price(), seed=6)
    assert np.array_equal(first.random, again.random)
    assert not np.array_equal(first.random, other.random)
    flat = np.zeros(field.shape)  # equal patches come in random order, not row by row
    assert not np.array_equal(first.curves(flat).most_first, other.curves(flat).most_first)


@given(st.integers(1, 9), st.integers(0, 100))
def test_patches_divide_the_field(patch, seed):
    field = np.random.default_rng(seed).random((17, 23)) > 0.3
    labels = patches_of(field, patch)
    assert (labels[~field] == -1).all()
    sizes = np.bincount(labels[labels >= 0])
    assert (sizes * 8 >= patch**2).all()
    for number in range(len(sizes)):
        rows, columns = np.nonzero(labels == number)
        assert len({(r // patch, c // patch) for r, c in zip(rows, columns, strict=True)}) == 1
    lost = field & (labels < 0)
    assert lost.sum() < field.size / 8


def test_about_as_many_patches_as_asked():
    field = disc(200)
    assert 150 < patches_of(field, patch_side(field, 200)).max() < 260


def test_the_blur_stays_inside_the_anatomy():
    _, image, field = setting()
    outside = torch.from_numpy(~field)
    for value in (-5.0, 7.0):
        other = torch.where(outside, value, image)
        made = blurred_inside(other, field)
        assert torch.equal(made[..., outside], other[..., outside])
        assert torch.allclose(made[..., ~outside], blurred_inside(image, field)[..., ~outside])
    constant = torch.where(outside, 0.0, torch.full_like(image, 0.7))
    assert torch.allclose(blurred_inside(constant, field), constant)


def test_the_area_is_that_of_the_paper():
    assert aopc([4.0, 3.0, 1.0, 0.0]) == pytest.approx((0 + 1 + 3 + 4) / 4)


def test_a_field_too_small_for_steps_is_refused():
    model, image, _ = setting()
    field = np.zeros((24, 24), bool)
    field[3:6, 3:6] = True
    with pytest.raises(AuditError, match="too small"):
        Deleting(model, image, field, 1, patches=200, price=Price())
