"""Checkerboards of stride-2 lattices, and the smoothing that is fixed beforehand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from pipeline.comparison import localisation
from pipeline.comparison.smoothing import checkerboard, smoothed


def test_smoothing_keeps_the_total_and_the_dtype():
    relevance = np.random.default_rng(0).standard_normal((20, 30)).astype(np.float32)
    result = smoothed(relevance, 1.5)
    assert result.dtype == np.float32
    assert result.sum() == pytest.approx(relevance.sum(), abs=1e-2)
    assert smoothed(relevance, 0) is relevance


def test_a_checkerboard_is_told_from_a_smooth_map():
    rows, columns = np.indices((40, 41))
    board = ((rows + columns) % 2) * 2.0 - 1
    noise = np.random.default_rng(1).standard_normal((40, 40))
    assert checkerboard(board) == pytest.approx(1)
    assert checkerboard(noise) == pytest.approx(0.75, abs=0.05)
    assert checkerboard(ndimage.gaussian_filter(noise, 4)) < 0.05
    assert np.isnan(checkerboard(np.ones((4, 4))))


def test_smoothing_undoes_a_checkerboard_and_raises_the_metric():
    """The same evidence, once on a lattice: without smoothing the lattice and not the map is measured."""
    rng = np.random.default_rng(2)
    mask = np.zeros((64, 64), bool)
    mask[20:40, 20:40] = True
    evidence = ndimage.gaussian_filter(mask.astype(float), 2)
    rows, columns = np.indices(mask.shape)
    lattice = evidence + 1.5 * (((rows + columns) % 2) * 2 - 1) + 0.01 * rng.standard_normal(mask.shape)
    raw, mended = (
        localisation.measure(m, {"m": mask})["m"].rank_accuracy for m in (lattice, smoothed(lattice, 1.5))
    )
    assert raw <= 0.5
    assert mended > 0.9
