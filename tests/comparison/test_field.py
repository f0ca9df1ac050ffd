"""Relevance outside the field and in its rim."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.comparison.field import field_shares, rim_of
from pipeline.errors import MethodError


@pytest.fixture
def field():
    rows, columns = np.ogrid[:100, :100]
    return (rows - 50) ** 2 + (columns - 50) ** 2 < 40**2


def test_an_even_map_has_rim_density_zero(field):
    shares = field_shares(np.where(field, -2.0, 0), field, rim=5)
    assert shares.outside == 0
    assert shares.log2_rim_density == pytest.approx(0, abs=1e-9)
    assert shares.rim == pytest.approx(rim_of(field, 5).sum() / field.sum())


def test_both_signs_count(field):
    relevance = np.zeros(field.shape)
    relevance[50, 50], relevance[0, 0] = 1, -3
    assert field_shares(relevance, field).outside == pytest.approx(0.75)


def test_a_map_on_the_rim_is_seen(field):
    shares = field_shares(rim_of(field, 5).astype(float), field, rim=5)
    assert shares.rim == 1
    assert shares.log2_rim_density > 1.5


def test_the_image_border_is_no_rim():
    field = np.zeros((20, 20), bool)
    field[:, :10] = True
    assert not rim_of(field, 2)[:, 0].any()
    assert rim_of(field, 2)[:, 9].all()
    assert not rim_of(np.ones((5, 5), bool), 2).any()


def test_width_is_in_millimetres(field):
    assert np.array_equal(rim_of(field, 6.0, 2.0), rim_of(field, 3.0, 1.0))


def test_undefined_is_said(field):
    assert field_shares(np.zeros(field.shape), field).excluded == "the map is zero everywhere"
    only_outside = field_shares((~field).astype(float), field)
    assert only_outside.outside == 1
    assert only_outside.excluded == "the map is zero inside the field"
    with pytest.raises(MethodError):
        field_shares(np.full(field.shape, np.nan), field)
    with pytest.raises(MethodError):
        field_shares(np.zeros(field.shape), np.zeros(field.shape, bool))
