"""From measurements of cases to sentences about a cohort."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pipeline.comparison import covariates, hypotheses, statistics, summary
from pipeline.errors import CohortError, RecordError


def measurements(cases=20, effect=1.0, seed=0, methods=("lrp",), metrics=("log2_mass_lift", "pointing_game")):
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(cases):
        difficulty = rng.standard_normal()
        for method in methods:
            for metric in metrics:
                for source, name, gain in [
                    ("model", method, effect),
                    ("twin-1", method, 0.0),
                    ("twin-2", method, 0.0),
                    ("null", "contrast", effect),
                ]:
                    value = difficulty + gain + 0.3 * rng.standard_normal()
                    rows.append(
                        {
                            "case": f"c{i}",
                            "patient": f"p{i // 2}" if i < 4 else f"p{i}",
                            "method": name if source == "model" else f"{source}:{name}",
                            "target": 1,
                            "lesion": "MA",
                            "metric": metric,
                            "value": value if metric != "pointing_game" else float(value > 0),
                            "logit": 2.0 if source == "model" else np.nan,
                        }
                    )
    return pd.DataFrame(rows).drop_duplicates(["case", "method", "metric"])


def test_paired_lifts_are_the_paired_test_by_hand():
    frame = measurements()
    result = summary.paired_lifts(frame)
    assert list(result["reference"]) == ["contrast", "twins"]
    wide = frame[frame["metric"] == "log2_mass_lift"].pivot_table(
        index=["case", "patient"], columns="method", values="value", sort=False
    )
    twins = (wide["twin-1:lrp"] + wide["twin-2:lrp"]) / 2
    test = hypotheses.paired_test(wide["lrp"], twins, wide.index.get_level_values("patient"))
    row = result[result["reference"] == "twins"].iloc[0]
    assert (row["value"], row["low"], row["p"]) == pytest.approx(
        (test.difference.value, test.difference.low, test.p), abs=1e-9
    )
    assert row["n"] == 18
    assert row["call"] == "for"
    assert list(result["p_adjusted"]) == pytest.approx(list(hypotheses.benjamini_hochberg(result["p"])))


def test_the_words_follow_the_numbers():
    result = summary.paired_lifts(measurements(seed=1)).set_index("reference")
    assert (
        "puts more relevance on MA than the same method on models with random weights"
        in result.loc["twins", "conclusion"]
    )
    assert "is not shown to do better on MA than plain image contrast" in result.loc["contrast", "conclusion"]
    few = summary.paired_lifts(measurements(cases=5)).set_index("reference")
    assert few.loc["twins", "conclusion"].startswith("Too few patients (n = 3)")
    less = summary.paired_lifts(measurements(effect=-2)).set_index("reference")
    assert "puts less relevance" in less.loc["twins", "conclusion"]


def test_negative_logits_are_reported_apart():
    frame = measurements()
    no_calls = [f"c{i}" for i in range(10, 18)]
    frame.loc[frame["case"].isin(no_calls) & (frame["method"] == "lrp"), "logit"] = -1.0
    result = summary.paired_lifts(frame)
    assert set(result["call"]) == {"for", "against"}
    assert result.loc[(result["call"] == "against") & (result["reference"] == "twins"), "n"].item() == 8
    totals = summary.summarise(frame).query("source == 'twin-1' and metric == 'log2_mass_lift'")
    assert dict(zip(totals["call"], totals["cases"], strict=True)) == {"against": 8, "for": 12}
    assert set(summary.with_sources(frame.drop(columns="logit"))["call"]) == {"unknown"}


def test_undefined_cases_are_counted_on_either_side():
    frame = measurements()
    is_lift = frame["metric"] == "log2_mass_lift"
    frame.loc[is_lift & (frame["case"] == "c7") & (frame["method"] == "lrp"), "value"] = np.nan
    frame = frame[~((frame["case"] == "c9") & frame["method"].str.startswith("twin"))]
    row = summary.paired_lifts(frame).set_index("reference").loc["twins"]
    assert (row["n"], row["excluded"]) == (16, 2)
    total = summary.summarise(frame).query("source == 'model' and metric == 'log2_mass_lift'").iloc[0]
    assert (total["cases"], total["excluded"], total["n"]) == (20, 1, 17)


def test_the_interval_suits_the_metric():
    frame = summary.summarise(measurements()).set_index(["source", "metric"])
    assert frame.loc[("model", "pointing_game"), "interval"].startswith("Clopper–Pearson")
    assert frame.loc[("model", "log2_mass_lift"), "interval"].startswith("t-interval")
    estimate = summary.estimate_of("mass_accuracy", [0.001] * 9 + [0.3], range(10))
    assert estimate.low >= 0
    assert isinstance(estimate, statistics.Estimate)


def test_incomplete_measurements_are_refused():
    with pytest.raises(RecordError, match="patient"):
        summary.summarise(measurements().drop(columns="patient"))
    assert summary.paired_lifts(measurements(), metric="auroc").empty


# Subgroups and covariates


def test_subgroups_find_the_difference_and_keep_silent_on_few():
    frame = measurements(cases=60, seed=3)
    cases = pd.DataFrame({"case": [f"c{i}" for i in range(60)], "sex": ["f", "m"] * 30})
    cases["site"] = ["rare"] * 5 + ["big"] * 50 + [""] * 5
    harder = frame["case"].isin(cases.loc[cases["sex"] == "m", "case"]) & (frame["method"] == "lrp")
    frame.loc[harder, "value"] -= 3
    result = covariates.subgroups(frame, cases, ["sex", "site"]).set_index(["column", "level"])
    assert result.loc[("sex", "m"), "difference"] < -2
    assert result.loc[("sex", "m"), "p_adjusted"] < 0.01
    assert "2 patients in both groups" in result.loc[("sex", "m"), "note"]
    rare = result.loc[("site", "rare")]
    assert np.isnan(rare["value"])
    assert (rare["n"], rare["note"]) == (3, "fewer than 10 patients")
    assert ("site", "") not in result.index


def test_subgroups_refuse_a_table_that_does_not_fit():
    frame = measurements()
    with pytest.raises(CohortError, match="sex"):
        covariates.subgroups(frame, pd.DataFrame({"case": ["c0"]}), ["sex"])
    twice = pd.DataFrame({"case": ["c0", "c0"], "sex": ["f", "f"]})
    with pytest.raises(CohortError, match="twice"):
        covariates.subgroups(frame, twice, ["sex"])


def test_age_bands():
    assert covariates.age_bands([49.9, 50, 65, 80, np.nan]) == ["<50", "50–59", "60–69", "80+", ""]


def test_association_is_within_the_class():
    """Age differs between the classes; only a model that reads age *inside* a class is caught."""
    rng = np.random.default_rng(5)
    label = np.repeat([0, 1], 60)
    age = 60 + 10 * label + 5 * rng.standard_normal(120)
    sound, reads_age = label + 0.3 * rng.standard_normal(120), label + 0.1 * (age - 60)
    table = pd.DataFrame({"age": age, "sex": rng.choice(["f", "m"], 120)})
    clean = covariates.associations(sound, label, table)
    assert (clean["p_adjusted"] > 0.05).all()
    caught = covariates.associations(reads_age, label, table).set_index(["class", "covariate"])
    assert caught.loc[(1, "age"), "value"] > 0.95
    assert caught.loc[(1, "age"), "low"] > 0.9
    assert list(clean["measure"]) == ["Spearman's ρ", "difference in logit"] * 2


def test_missing_covariates_are_counted_and_few_get_no_number():
    rng = np.random.default_rng(6)
    table = pd.DataFrame({"age": [np.nan] * 4 + list(rng.normal(60, 5, 16)), "sex": ["f"] * 17 + ["m"] * 3})
    result = covariates.associations(rng.standard_normal(20), [1] * 20, table).set_index("covariate")
    assert (result.loc["age", "n"], result.loc["age", "excluded"]) == (16, 4)
    assert np.isnan(result.loc["sex", "p"])
    assert "6 are needed" in result.loc["sex", "interval"]
    constant = covariates.associations(rng.standard_normal(20), [1] * 20, pd.DataFrame({"age": [60.0] * 20}))
    assert "constant" in constant["interval"].item()
    with pytest.raises(CohortError):
        covariates.associations([1.0], [1, 0], table)


@pytest.mark.long
def test_a_thousand_cases_aggregate_in_a_minute():
    import time

    metrics = ("log2_mass_lift", "pointing_game", "auroc")
    frame = measurements(cases=1000, methods=tuple(f"m{i}" for i in range(10)), metrics=metrics)
    start = time.process_time()
    assert len(summary.summarise(frame)) == 3 * (3 * 10 + 1)
    assert len(summary.paired_lifts(frame)) == 20
    assert time.process_time() - start < 60
