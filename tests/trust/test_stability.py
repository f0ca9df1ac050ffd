"""Stability under noise: against a slow reference, and what noise may touch."""

import numpy as np
import pytest
import torch
from scipy import stats

from pipeline.trust.stability import noisy, stability


def test_changes_are_those_of_the_definition():
    rng = np.random.default_rng(0)
    plain, moved = rng.normal(size=(9, 8)), rng.normal(size=(3, 9, 8))
    field = rng.random((9, 8)) > 0.3
    found = stability(plain, moved, field)
    cells = [tuple(c) for c in np.argwhere(field)]
    size = sum(plain[c] ** 2 for c in cells) ** 0.5
    changes = [sum((other[c] - plain[c]) ** 2 for c in cells) ** 0.5 / size for other in moved]
    assert found.largest == pytest.approx(max(changes), abs=1e-9)
    assert found.mean == pytest.approx(sum(changes) / 3, abs=1e-9)
    ranks = [stats.spearmanr([o[c] for c in cells], [plain[c] for c in cells]).statistic for o in moved]
    assert found.rank == pytest.approx(sum(ranks) / 3, abs=1e-9)


def test_the_same_map_has_not_changed_and_an_empty_one_has_no_stability():
    plain = np.random.default_rng(1).normal(size=(5, 5))
    field = np.ones((5, 5), bool)
    same = stability(plain, np.stack([plain, plain]), field)
    assert (same.largest, same.mean, same.rank) == pytest.approx((0, 0, 1))
    assert np.isnan(stability(np.zeros((5, 5)), np.stack([plain]), field).largest)


def test_noise_is_a_share_of_each_channel_and_stays_in_the_field():
    generator = torch.Generator().manual_seed(0)
    image = torch.rand((1, 2, 60, 60), generator=generator) * torch.tensor([1.0, 10.0]).reshape(1, 2, 1, 1)
    field = np.zeros((60, 60), bool)
    field[10:50, 5:55] = True
    made = noisy(image, field, noise=0.1, draws=4, seed=2)
    assert made.shape == (4, 2, 60, 60)
    assert made.dtype == image.dtype
    difference = made - image
    assert not difference[..., ~torch.from_numpy(field)].any()
    inside = difference[..., torch.from_numpy(field)]
    spread = image[0][:, torch.from_numpy(field)].std(dim=1)
    assert (inside.std(dim=(0, 2)) / spread).tolist() == pytest.approx([0.1, 0.1], rel=0.05)
    assert torch.equal(made, noisy(image, field, noise=0.1, draws=4, seed=2))
    assert not torch.equal(made, noisy(image, field, noise=0.1, draws=4, seed=3))
