"""Similarity of maps: against slow references written from the definitions, and what must hold of it."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.metrics import structural_similarity

from pipeline.errors import AuditError
from pipeline.trust.similarity import rank_correlation, rank_matrix, similarity, ssim, strength


def slow_ssim(a, b, data_range, window):
    """Wang et al. 2004 window by window, sample covariance, mirrored at the border."""
    half = window // 2
    a, b = (np.pad(x, half, mode="symmetric") for x in (a, b))
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    made = np.empty([size - 2 * half for size in a.shape])
    for where in np.ndindex(*made.shape):
        box = tuple(slice(i, i + window) for i in where)
        x, y = a[box].ravel(), b[box].ravel()
        covariance = np.cov(x, y, ddof=1)
        up = (2 * x.mean() * y.mean() + c1) * (2 * covariance[0, 1] + c2)
        down = (x.mean() ** 2 + y.mean() ** 2 + c1) * (covariance[0, 0] + covariance[1, 1] + c2)
        made[where] = up / down
    return made


def slow_rank_correlation(a, b):
    """Pearson correlation of ranks, ties averaged, written out."""

    def ranks(values):
        return [sum(v < x for v in values) + (sum(v == x for v in values) + 1) / 2 for x in values]

    x, y = (np.array(ranks(list(values))) for values in (a, b))
    x, y = x - x.mean(), y - y.mean()
    return (x * y).sum() / np.sqrt((x**2).sum() * (y**2).sum())


@pytest.mark.parametrize("shape", [(11, 14), (8, 7, 9), (5, 12)])
def test_ssim_is_that_of_the_paper(shape):
    rng = np.random.default_rng(0)
    a, b = rng.random((2, *shape))
    field = rng.random(shape) > 0.4
    window = min(7, *(size - 1 + size % 2 for size in shape))
    slow = slow_ssim(a, b, 1.0, window)
    assert ssim(a, b, field, data_range=1.0) == pytest.approx(slow[field].mean(), abs=1e-9)
    assert ssim(a, b, data_range=1.0) == pytest.approx(slow.mean(), abs=1e-9)


def test_ssim_of_whole_windows_is_that_of_scikit_image():
    a, b = np.random.default_rng(1).random((2, 30, 40))
    whole = np.zeros(a.shape, bool)
    whole[3:-3, 3:-3] = True
    assert ssim(a, b, whole, data_range=1.0) == pytest.approx(
        structural_similarity(a, b, data_range=1.0), abs=1e-12
    )


@given(st.integers(0, 10_000), st.sampled_from([(6, 7), (4, 5, 3)]), st.integers(2, 30))
def test_rank_correlation_with_ties_is_that_of_the_definition(seed, shape, levels):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, levels, (2, *shape)).astype(float)
    field = rng.random(shape) > 0.3
    if np.ptp(a[field]) == 0 or np.ptp(b[field]) == 0:
        assert np.isnan(rank_correlation(a, b, field))
        return
    assert rank_correlation(a, b, field) == pytest.approx(slow_rank_correlation(a[field], b[field]), abs=1e-9)


def test_the_matrix_is_every_pair():
    maps = [*np.random.default_rng(2).normal(size=(4, 9, 9)), np.ones((9, 9))]
    field = np.random.default_rng(3).random((9, 9)) > 0.3
    matrix = rank_matrix(maps, field)
    for i, j in itertools.product(range(4), repeat=2):
        assert matrix[i, j] == pytest.approx(rank_correlation(maps[i], maps[j], field), abs=1e-12)
    assert np.isnan(matrix[4, :4]).all()
    assert np.isnan(matrix[:4, 4]).all()


@given(st.integers(0, 10_000), st.floats(0.01, 100))
def test_a_map_is_like_itself_whatever_its_scale_and_symmetric(seed, scale):
    a, b = np.random.default_rng(seed).normal(size=(2, 12, 13))
    same = similarity(a, scale * a)
    assert (same.ssim, same.rank_absolute, same.rank_signed) == pytest.approx((1, 1, 1))
    opposite = similarity(a, -a)
    assert (opposite.ssim, opposite.rank_absolute, opposite.rank_signed) == pytest.approx((1, 1, -1))
    one, two = similarity(a, b), similarity(b, a)
    assert (one.ssim, one.rank_absolute, one.rank_signed) == pytest.approx(
        (two.ssim, two.rank_absolute, two.rank_signed)
    )
    assert max(abs(one.ssim), abs(one.rank_absolute), abs(one.rank_signed)) < 0.5


def test_what_lies_outside_the_field_does_not_count():
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(2, 40, 40))
    field = np.zeros((40, 40), bool)
    field[15:25, 15:25] = True
    before = similarity(a, b, field)
    a[:8], b[:8] = 1e6, 1e6  # beyond every window
    after = similarity(a, b, field)
    assert (after.ssim, after.rank_absolute) == pytest.approx((before.ssim, before.rank_absolute), abs=1e-9)
    assert after.rank_signed == before.rank_signed


def test_a_constant_map_has_no_similarity():
    a = np.random.default_rng(5).normal(size=(9, 9))
    none = similarity(a, np.zeros((9, 9)))
    assert np.isnan([none.ssim, none.rank_absolute, none.rank_signed]).all()


def test_a_few_extreme_pixels_do_not_set_the_scale():
    a = np.random.default_rng(6).random((50, 50))
    a[0, 0] = 1e4
    assert np.median(strength(a)) == pytest.approx(np.median(a) / np.percentile(a, 99))
    lonely = np.zeros((50, 50))
    lonely[3, 4] = -2.0
    assert strength(lonely)[3, 4] == 1


def test_maps_of_two_images_are_refused():
    with pytest.raises(AuditError, match="shape"):
        similarity(np.zeros((3, 3)), np.zeros((3, 4)))
    with pytest.raises(AuditError, match="empty field"):
        similarity(np.zeros((3, 3)), np.zeros((3, 3)), np.zeros((3, 3), bool))
