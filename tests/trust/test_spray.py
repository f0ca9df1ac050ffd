"""SpRAy against slow references, its laws, and what it says of groups, of none, and of nothing to ask."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import AuditError
from pipeline.trust.downsizing import overlaps, pooled
from pipeline.trust.spray import (
    FEWEST,
    centred_gram,
    features_of,
    group_maps,
    groups_by_gap,
    laplacian,
    neighbour_graph,
    scatter_of,
    spectrum,
    squared_distances,
    typical,
    without_strata,
)

SEEDS = st.integers(0, 10_000)


def random_maps(seed, cases=20, cells=30):
    """Maps of one kind: a profile, and noise that is never negative."""
    rng = np.random.default_rng(seed)
    return rng.gamma(4.0, 1.0, (cases, cells)) * rng.gamma(2.0, 1.0, cells)


def two_groups(seed, cases=30, tagged=10, cells=40):
    maps = random_maps(seed, cases, cells)
    carries = np.zeros(cases, bool)
    carries[np.random.default_rng(seed).permutation(cases)[:tagged]] = True
    maps[carries, 5] += 0.6 * maps[carries].sum(axis=1)
    return maps, carries


def slow_graph(features, k):
    """Neighbours by sorting, one case after another."""
    n = len(features)
    graph = np.zeros((n, n))
    for i in range(n):
        away = sorted((float(((features[i] - features[j]) ** 2).sum()), j) for j in range(n) if j != i)
        for distance, j in away:
            if distance <= away[k - 1][0]:
                graph[i, j] = graph[j, i] = 1
    return graph


def slow_laplacian(graph):
    n = len(graph)
    out = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            out[i, j] = (i == j) - graph[i, j] / np.sqrt(graph[i].sum() * graph[j].sum())
    return out


def slow_pooled(values, cells, start, stop):
    """Every pixel is cut into a thousand pieces, and each goes where its middle lies."""
    out = np.zeros(cells)
    for index, value in enumerate(values):
        at = (index + (np.arange(1000) + 0.5) / 1000 - start) / (stop - start) * cells
        np.add.at(out, np.clip(np.floor(at), 0, cells - 1).astype(int), value / 1000)
    return out


@given(SEEDS, st.integers(2, 9))
@settings(max_examples=25, deadline=None)
def test_graph_laplacian_and_spectrum_are_those_of_the_slow_reference(seed, k):
    features, _ = features_of(random_maps(seed))
    gram = centred_gram(features)
    graph = neighbour_graph(squared_distances(gram), k)
    expected = slow_graph(features, k)
    assert np.array_equal(graph, expected)
    assert np.abs(laplacian(graph) - slow_laplacian(expected)).max() < 1e-9
    values, vectors = spectrum(gram, k)
    slow = np.sort(np.linalg.eigvals(slow_laplacian(expected)).real)
    assert np.abs(values - slow).max() < 1e-9
    assert np.abs(slow_laplacian(expected) @ vectors - vectors * values).max() < 1e-9


@given(SEEDS, st.integers(2, 9))
@settings(max_examples=25, deadline=None)
def test_laws_of_the_graph(seed, k):
    """An edge goes both ways, nobody is joined to himself, everybody has k neighbours or more."""
    graph = neighbour_graph(squared_distances(centred_gram(features_of(random_maps(seed))[0])), k)
    assert np.array_equal(graph, graph.T)
    assert not graph.diagonal().any()
    assert (graph.sum(axis=1) >= k).all()
    values = np.linalg.eigvalsh(laplacian(graph))
    assert abs(values[0]) < 1e-9
    assert values[-1] <= 2 + 1e-9


def test_as_many_zero_eigenvalues_as_pieces():
    graph = np.kron(np.eye(3), 1 - np.eye(5))
    values = np.linalg.eigvalsh(laplacian(graph))
    assert (np.abs(values) < 1e-9).sum() == 3
    assert groups_by_gap(values, 8) == 3


@given(SEEDS, st.floats(-3, 6), st.floats(7, 20), st.integers(2, 6))
@settings(max_examples=20, deadline=None)
def test_pooling_is_that_of_a_slow_reference_and_keeps_the_mass(seed, start, stop, cells):
    values = np.random.default_rng(seed).random(12)
    found = pooled(values, [cells], [(start, stop)])
    assert np.abs(found - slow_pooled(values, cells, start, stop)).max() < 5e-3  # a piece may lie on an edge
    assert found.sum() == pytest.approx(values.sum(), abs=1e-9)
    assert np.abs(overlaps(cells, 12, start, stop).sum(axis=0) - 1).max() < 1e-9


def test_whole_blocks_are_summed():
    values = np.random.default_rng(0).random((6, 8, 4))
    expected = values.reshape(3, 2, 4, 2, 2, 2).sum(axis=(1, 3, 5))
    assert np.abs(pooled(values, (3, 4, 2)) - expected).max() < 1e-12


@given(SEEDS)
@settings(max_examples=10, deadline=None)
def test_scale_of_maps_and_order_of_cells_do_not_matter(seed):
    maps, _ = two_groups(seed)
    rng = np.random.default_rng(seed)
    first = group_maps(maps, draws=19)
    scaled = maps * rng.uniform(0.1, 10, (len(maps), 1))
    other = group_maps(scaled[:, rng.permutation(maps.shape[1])], draws=19)
    assert np.array_equal(first.labels, other.labels)
    assert first.by_gap == other.by_gap
    assert np.abs(first.eigenvalues - other.eigenvalues).max() < 1e-9
    assert first.groups == other.groups


@given(SEEDS)
@settings(max_examples=10, deadline=None)
def test_order_of_cases_does_not_matter(seed):
    from sklearn.metrics import adjusted_rand_score

    maps, _ = two_groups(seed)
    order = np.random.default_rng(seed).permutation(len(maps))
    first, other = group_maps(maps, draws=19), group_maps(maps[order], draws=19)
    assert np.abs(first.eigenvalues - other.eigenvalues).max() < 1e-9
    assert adjusted_rand_score(first.labels[order], other.labels) == 1


def test_planted_groups_are_found():
    from sklearn.metrics import adjusted_rand_score

    for seed in range(5):
        maps, carries = two_groups(seed)
        found = group_maps(maps, seed=seed, draws=199)
        assert found.p <= 0.005
        assert found.groups == 2
        assert adjusted_rand_score(carries, found.labels) == 1


def test_three_groups_are_cut_one_after_another():
    from sklearn.metrics import adjusted_rand_score

    maps = random_maps(0, 45)
    truth = np.repeat([0, 1, 2], 15)
    for group in (1, 2):
        maps[truth == group, group] += 1.5 * maps[truth == group].sum(axis=1)
    found = group_maps(maps, draws=199)
    assert (found.groups, found.by_gap) == (3, 3)
    assert adjusted_rand_score(truth, found.labels) == 1


def test_one_kind_of_maps_makes_no_groups():
    """P-values of cohorts without groups are not small more often than they say (99 % bound of 40 draws)."""
    small = sum(group_maps(random_maps(seed), seed=seed, draws=199).p <= 0.05 for seed in range(40))
    assert small <= 6


def test_the_same_seed_gives_the_same():
    maps, _ = two_groups(1)
    first, second = group_maps(maps, seed=4, draws=19), group_maps(maps, seed=4, draws=19)
    assert (first.p, first.groups) == (second.p, second.groups)
    assert np.array_equal(first.labels, second.labels)
    assert np.array_equal(scatter_of(first.features, seed=4), scatter_of(second.features, seed=4))


def test_scatter_keeps_groups_apart():
    maps, carries = two_groups(2)
    features, _ = features_of(maps)
    places = scatter_of(features)
    assert places.shape == (len(maps), 2)
    assert np.abs(places).max() == pytest.approx(1)
    nearest = np.argsort(((places[:, None] - places[None]) ** 2).sum(-1), axis=1)[:, 1]
    assert (carries[nearest] == carries).mean() > 0.9


def test_typical_maps_are_nearest_to_the_middle():
    features = np.array([[0.0, 0.0], [1.0, 1.0], [0.9, 1.1], [2.2, 2.0]])
    assert typical(features, 2) == [1, 2]


@pytest.mark.parametrize("cases", [0, 1, 2, FEWEST - 1])
def test_too_few_maps_are_a_note(cases):
    found = group_maps(random_maps(0, cases))
    assert found.groups == 1
    assert np.isnan(found.p)
    assert found.reason == f"{cases} maps with relevance, {FEWEST} are needed"


def test_zero_maps_are_left_out():
    maps = random_maps(0)
    maps[[3, 7]] = 0
    found = group_maps(maps)
    assert found.kept.sum() == len(maps) - 2
    assert not found.kept[[3, 7]].any()
    assert found.reason == ""
    assert group_maps(np.zeros((20, 5))).reason.startswith("0 maps")


def test_identical_maps_are_a_note():
    assert group_maps(np.tile(random_maps(0, 1), (20, 1))).reason == "all maps are alike"
    scaled = np.tile(random_maps(0, 1), (20, 1)) * np.arange(1, 21)[:, None]
    assert group_maps(scaled).reason == "all maps are alike"


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
def test_what_is_no_map_is_refused(value):
    maps = random_maps(0)
    maps[2, 2] = value
    with pytest.raises(AuditError, match="negative or not a number"):
        group_maps(maps)


def test_strata_make_no_groups():
    """Two sides that differ in the mean are two groups, unless the difference between sides is taken out."""
    sides = np.array(["left", "right"] * 15)
    maps = random_maps(11, 30)
    maps[sides == "left", 3:6] += 0.1 * maps[sides == "left"].sum(axis=1, keepdims=True)
    assert group_maps(maps, draws=199).p <= 0.05
    assert group_maps(maps, sides.tolist(), draws=199).p > 0.05


def test_the_difference_between_strata_is_taken_out_and_nothing_else():
    features = np.random.default_rng(0).random((12, 5))
    names = ["a"] * 5 + ["b"] * 4 + ["c"] * 2 + [""]
    found = without_strata(features, names)
    for stratum in (slice(0, 5), slice(5, 9)):
        assert np.abs(found[stratum].mean(axis=0) - features.mean(axis=0)).max() < 1e-12
        assert np.abs(np.diff(found[stratum], axis=0) - np.diff(features[stratum], axis=0)).max() < 1e-12
    assert np.array_equal(found[9:], features[9:])
