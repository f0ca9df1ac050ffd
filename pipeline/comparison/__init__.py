"""Relevance against expert marks and regions: metrics, null maps, statistics.

Names are imported from their module on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "METRICS": "localisation",
    "Localisation": "localisation",
    "measure": "localisation",
    "pointing_game": "localisation",
    "relevance_mass_accuracy": "localisation",
    "relevance_rank_accuracy": "localisation",
    "log2_lift": "localisation",
    "auprc": "localisation",
    "auroc": "localisation",
    "measure_native": "native",
    "to_native": "native",
    "seen_by_model": "native",
    "FieldShares": "field",
    "field_shares": "field",
    "rim_of": "field",
    "extend_beyond": "field",
    "RegionScores": "regions",
    "Agreement": "regions",
    "region_scores": "regions",
    "scores_from_sums": "regions",
    "agreement": "regions",
    "rank_intervals": "regions",
    "null_maps": "nulls",
    "centre_prior": "nulls",
    "random_smooth": "nulls",
    "sobel": "nulls",
    "local_contrast": "nulls",
    "gathered": "average",
    "mean_mask_of_others": "average",
    "on_model_grid_of": "average",
    "Estimate": "statistics",
    "mean_interval": "statistics",
    "rate_interval": "statistics",
    "accuracy_interval": "statistics",
    "bootstrap_interval": "statistics",
    "auc_interval": "roc",
    "by_patient": "statistics",
    "Test": "hypotheses",
    "paired_test": "hypotheses",
    "permutation_test": "hypotheses",
    "benjamini_hochberg": "hypotheses",
    "Overlap": "thresholds",
    "OverlapCurve": "thresholds",
    "overlap_curves": "thresholds",
    "best_fixed_threshold": "thresholds",
    "Lesions": "lesions",
    "Detections": "lesions",
    "find_lesions": "lesions",
    "candidates": "lesions",
    "detect": "lesions",
    "Froc": "detection",
    "LesionRow": "detection",
    "froc": "detection",
    "lesion_table": "detection",
    "ExpertAgreement": "experts",
    "expert_agreement": "experts",
    "consensus": "experts",
    "smoothed": "smoothing",
    "checkerboard": "smoothing",
    "TwinCheck": "twins",
    "random_twin": "twins",
    "random_twins": "twins",
    "redrawn": "twins",
    "recalibrate": "twins",
    "check_twin": "twins",
    "COLUMNS": "summary",
    "summarise": "summary",
    "paired_lifts": "summary",
    "conclusion": "summary",
    "with_sources": "summary",
    "age_bands": "covariates",
    "subgroups": "covariates",
    "associations": "covariates",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    """Import a public name from the module where it lives."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
