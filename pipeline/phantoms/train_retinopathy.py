"""Train the retinopathy reference model: `python -m pipeline.phantoms.train_retinopathy --data FOLDER`.

Referable diabetic retinopathy (grade 2 or above) or not, from IDRiD's graded photographs and retina phantoms
together. Five folds, fixed beforehand in `bundles/retinopathy/folds.csv`, give the performance on real
photographs; the shipped weights are then trained on all of them. Needs the extra `dev`.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.errors import AuditError, CohortError
from pipeline.models.card import Performance, Preprocessing
from pipeline.phantoms.train_retinopathy_bundle import write_card, write_twin, write_weights
from pipeline.phantoms.train_retinopathy_data import (
    BUNDLE,
    FOLDS,
    REFERABLE,
    Graded,
    graded_photographs,
    read_folds,
    write_folds,
)
from pipeline.phantoms.train_retinopathy_fit import (
    VARIANTS,
    Recipe,
    fit,
    frozen_features,
    imagenet_model,
    predict,
    variants,
)

log = logging.getLogger("train_retinopathy")

GRID = Preprocessing(kind="fundus_square", shape=(512, 512), mean=(127 / 255,) * 3, std=(128 / 255,) * 3)
TRAIN_SEEDS = range(20_000, 20_160)
HELD_OUT_SEEDS = range(60_000, 60_160)
_GRADES = (0, 2, 1, 3, 0, 4, 1, 2)

Features = npt.NDArray[np.float16]
Labels = npt.NDArray[np.int64]


def phantom_grade(seed: int) -> int:
    """Grade of the phantom of a seed: half are referable, and the middle grades are commonest."""
    return _GRADES[seed % len(_GRADES)]


def photograph_features(graded: list[Graded], cache: Path) -> Features:
    """Frozen features of the photographs, shape (N, variants, C, h, w), kept in `cache`."""
    from pipeline.images import read_photograph
    from pipeline.models.prepare_fundus import prepare_fundus

    path = cache / "photographs.npy"
    if path.exists():
        stored: Features = np.load(path, allow_pickle=False)
        if len(stored) == len(graded):
            return stored
    model, rows = imagenet_model(), []
    for i, one in enumerate(graded):
        image = prepare_fundus(read_photograph(one.path), GRID).tensor
        rows.append(frozen_features(model, variants(image, np.random.default_rng([i, 3]))))
        _progress("photographs", i, len(graded))
    np.save(path, np.stack(rows))
    return np.stack(rows)


def phantom_features(seeds: range, cache: Path) -> tuple[Features, Labels]:
    """Frozen features and labels of phantoms, kept in `cache`."""
    from pipeline.models.prepare_fundus import prepare_fundus
    from pipeline.phantoms.retina import retina_phantom

    labels = np.array([int(phantom_grade(seed) >= REFERABLE) for seed in seeds])
    path = cache / f"phantoms-{seeds.start}-{seeds.stop}.npy"
    if path.exists():
        return np.load(path, allow_pickle=False), labels
    model, rows = imagenet_model(), []
    for i, seed in enumerate(seeds):
        photograph = retina_phantom(seed, phantom_grade(seed)).photograph
        image = prepare_fundus(photograph, GRID).tensor
        rows.append(frozen_features(model, variants(image, np.random.default_rng([seed, 3]))))
        _progress("phantoms", i, len(seeds))
    np.save(path, np.stack(rows))
    return np.stack(rows), labels


def _progress(what: str, done: int, total: int) -> None:
    if done % 40 == 0:
        log.info("%s: %d of %d", what, done, total)


def cross_validate(
    real: Features,
    truth: Labels,
    fold: Labels,
    drawn: Features,
    drawn_truth: Labels,
    recipe: Recipe,
    seed: int,
) -> npt.NDArray[np.float64]:
    """Score every photograph by a model that has not seen it.

    Returns
    -------
    ndarray of float64, shape (N,)
        Logit of referable minus logit of not referable.
    """
    scores = np.empty(len(truth))
    for held in range(FOLDS):
        out = fold == held
        features = np.concatenate([real[~out], drawn])
        labels = np.concatenate([truth[~out], drawn_truth])
        model = fit(features, labels, seed + held, f"fold {held}", recipe)
        scores[out] = predict(model, real[out][:, 0])
        own = _auc(scores[out], truth[out])
        log.info("fold %d: AUC %.3f on %d photographs", held, own.value, own.n)
    return scores


def _auc(scores: npt.NDArray[np.float64], truth: Labels, data: str = "") -> Performance:
    from pipeline.comparison.roc import auc_interval

    found = auc_interval(scores, truth == 1)
    return Performance(
        data=data,
        metric="auc",
        value=round(found.value, 4),
        low=round(found.low, 4),
        high=round(found.high, 4),
        n=len(truth),
    )


def shuffle_labels(labels: Labels, group: Labels, seed: int) -> Labels:
    """Deal the labels anew so that each group gets the same share of ones.

    A plain permutation is independent of the truth on average only; a network that finds one direction easily
    then reads the disease, or its opposite, from what little dependence is left.

    Parameters
    ----------
    labels, group : ndarray of int64, shape (N,)
        Labels, and the group (class and source of the picture) of each.
    seed : int
    """
    generator = np.random.default_rng([seed, 11])
    shuffled = np.zeros_like(labels)
    for one in np.unique(group):
        members = generator.permutation(np.flatnonzero(group == one))
        shuffled[members[: round(labels.mean() * len(members))]] = 1
    return shuffled


def colour_baseline(graded: list[Graded], truth: Labels, fold: Labels) -> Performance:
    """Say how far the mean colour of the field alone goes, by logistic regression on the same folds."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from pipeline.anatomy.retina import field_of_view
    from pipeline.images import read_photograph

    colours = np.empty((len(graded), 3))
    for i, one in enumerate(graded):
        photograph = read_photograph(one.path)
        colours[i] = photograph.data[field_of_view(photograph).mask()].mean(axis=0)
    scores = np.empty(len(graded))
    for held in range(FOLDS):
        out = fold == held
        model = make_pipeline(StandardScaler(), LogisticRegression()).fit(colours[~out], truth[~out])
        scores[out] = model.decision_function(colours[out])
    return _auc(scores, truth, "mean colour alone")


def shipped_scores(seeds: range) -> dict[str, npt.NDArray[np.float64]]:
    """Score phantoms with the bundle and its twin as an audit opens them, from photograph to logits."""
    import torch

    from pipeline.models.opening import open_model
    from pipeline.phantoms.retina import retina_phantom

    model = open_model(BUNDLE)
    modules = {"model": model.module, "twin": model.twin("shuffled_labels")}
    scores = {name: np.empty(len(seeds)) for name in modules}
    for i, seed in enumerate(seeds):
        prepared = model.prepare(retina_phantom(seed, phantom_grade(seed)).photograph)
        with torch.inference_mode():
            for name, module in modules.items():
                logits = module(prepared.tensor)[0]
                scores[name][i] = float(logits[1] - logits[0])
    return scores


def train(data: Path, cache: Path, seed: int, recipe: Recipe) -> None:
    """Cross-validate, train the shipped weights and their twin, write the bundle."""
    graded = graded_photographs(data)
    folds = read_folds()
    if set(folds) != {one.name for one in graded}:
        raise CohortError("folds.csv does not list the photographs of the data", "write the folds first")
    truth = np.array([int(one.referable) for one in graded])
    fold = np.array([folds[one.name] for one in graded])
    real = photograph_features(graded, cache)
    drawn, drawn_truth = phantom_features(TRAIN_SEEDS, cache)
    assert real.shape[1] == drawn.shape[1] == VARIANTS
    scores = cross_validate(real, truth, fold, drawn, drawn_truth, recipe, seed)
    quoted = _auc(scores, truth, "IDRiD photographs, 5-fold cross-validation")
    log.info("cross-validated: AUC %.3f [%.3f, %.3f]", quoted.value, quoted.low, quoted.high)
    features = np.concatenate([real, drawn])
    labels = np.concatenate([truth, drawn_truth])
    model = fit(features, labels, seed + 100, "shipped", recipe)
    source = np.repeat([0, 1], [len(real), len(drawn)])
    shuffled = shuffle_labels(labels, 2 * source + labels, seed)
    twin = fit(features, shuffled, seed + 100, "shuffled labels", recipe)
    write_weights(model)
    write_twin(model, twin)
    counts = (len(graded), len(TRAIN_SEEDS))
    write_card(GRID, (quoted,), counts)  # the bundle can be opened now
    held_out = np.array([int(phantom_grade(seed) >= REFERABLE) for seed in HELD_OUT_SEEDS])
    shipped = shipped_scores(HELD_OUT_SEEDS)
    phantoms = _auc(shipped["model"], held_out, "held-out retina phantoms")
    blind = _auc(shipped["twin"], held_out, "shuffled-label twin on held-out retina phantoms")
    colour = colour_baseline(graded, truth, fold)
    write_card(GRID, (quoted, phantoms), counts, (blind, colour))
    for one in (quoted, phantoms, blind, colour):
        log.info("%s: AUC %.3f [%.3f, %.3f], n = %d", one.data, one.value, one.low, one.high, one.n)


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and run; 2 if something is missing."""
    import torch

    parser = argparse.ArgumentParser(prog="train_retinopathy", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds retina/idrid")
    parser.add_argument("--cache", type=Path, help="keep the frozen features here")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folds-only", action="store_true", help="deal the folds anew, train nothing")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    torch.set_num_threads(given.threads)
    try:
        if given.folds_only:
            write_folds(graded_photographs(given.data))
        elif given.cache:
            given.cache.mkdir(parents=True, exist_ok=True)
            train(given.data, given.cache, given.seed, Recipe())
        else:
            with tempfile.TemporaryDirectory() as folder:
                train(given.data, Path(folder), given.seed, Recipe())
    except AuditError as error:
        log.error("%s", error)  # noqa: TRY400 - one line says it all
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
