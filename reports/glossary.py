"""What methods, measures, nulls and shares are, in one line a clinician can read."""

from __future__ import annotations

from typing import NamedTuple

from reports.words import plain


class Term(NamedTuple):
    """A printed name and its explanation."""

    title: str
    meaning: str


METHODS = {
    "occlusion": Term(
        "Occlusion",
        "Covers one patch after another and notes how much the decision changes. What covers the patch "
        "matters: zero imitates atrophy on MRI, grey imitates healthy tissue.",
    ),
    "region_occlusion": Term(
        "Region occlusion",
        "The same with whole anatomical regions of this patient. Effects across the border of two regions "
        "are invisible.",
    ),
    "gradient": Term(
        "Gradient",
        "How much a tiny change of each point would change the decision. Detailed, hard to read, and hardly "
        "different between classes.",
    ),
    "guided_backprop": Term(
        "Guided backpropagation",
        "A sharpened gradient that keeps only what supports the decision. It draws fine structures, also "
        "those of a model that has learnt nothing: read it beside the nulls.",
    ),
    "lrp": Term(
        "LRP",
        "Layer-wise relevance propagation: shares the decision out backwards, layer by layer, until every "
        "point has its part, for or against.",
    ),
    "sglrp": Term(
        "Softmax-gradient LRP",
        "LRP that subtracts what speaks for the other classes, so that the map belongs to this class.",
    ),
    "clrp": Term("Contrastive LRP", "LRP of this class against all the others."),
    "cam": Term(
        "CAM",
        "Class activation map: where the last layer saw this class. Coarse, fast, only for some "
        "architectures.",
    ),
    "grad_cam": Term(
        "Grad-CAM",
        "Where the last layer saw this class, for any architecture. Coarse: a blob is not a lesion outline.",
    ),
    "grad_cam++": Term("Grad-CAM++", "Grad-CAM that weighs several findings in one image more evenly."),
    "guided_grad_cam": Term(
        "Guided Grad-CAM", "Guided backpropagation, shown only where Grad-CAM saw this class."
    ),
    "mace": Term(
        "MACE", "Explains the decision by concepts learnt from the model's inner layers; has to be trained."
    ),
    "integrated_gradients": Term(
        "Integrated gradients", "Gradients summed on the way from an empty image to this one."
    ),
    "smooth_grad": Term("SmoothGrad", "The mean gradient of slightly noisy copies of the image."),
    "input_x_gradient": Term(
        "Input × gradient", "Gradient times image: bright points count more than dark ones."
    ),
}

METRICS = {
    "pointing_game": Term(
        "Pointing game", "Share of cases whose strongest point of relevance lies on an expert mark."
    ),
    "mass_accuracy": Term(
        "Relevance on the marks (RMA)", "Share of all positive relevance that lies on the expert marks."
    ),
    "rank_accuracy": Term(
        "Strongest points on the marks (RRA)",
        "Of as many strongest points as the experts marked, the share that lies on the marks.",
    ),
    "log2_mass_lift": Term(
        "Lift of relevance on the marks (log₂)",
        "Relevance on the marks over what chance would put there, in doublings: 0 is chance, 1 is twice, "
        "2 is four times.",
    ),
    "log2_rank_lift": Term(
        "Lift of the strongest points (log₂)", "Strongest points on the marks over chance, in doublings."
    ),
    "auprc": Term("AUPRC", "Quality of the map as a detector of marked points; chance is the marked share."),
    "expected_log2_density_lift": Term(
        "Relevance density of expected regions (log₂)",
        "Relevance per volume in the regions expected for the disease over the brain’s mean, in doublings.",
    ),
    "correct": Term("Right answers", "Share of cases whose most probable class is the label."),
    "auroc": Term(
        "AUROC", "Chance that a marked point has more relevance than an unmarked one; 0.5 is chance."
    ),
}
_NULL_ALIASES = {
    "centre": "centre_prior",
    "random": "random_smooth",
    "contrast": "local_contrast",
    "average": "average_mask",
    "twins": "random_weights",
    "shuffled": "shuffled_labels",
}
_ALIASES = {
    "relevance_mass_accuracy": "mass_accuracy",
    "relevance_rank_accuracy": "rank_accuracy",
    "log2_rma_lift": "log2_mass_lift",
    "log2_rra_lift": "log2_rank_lift",
    "rma": "mass_accuracy",
    "rra": "rank_accuracy",
}
METRIC_ORDER = (
    "log2_mass_lift",
    "expected_log2_density_lift",
    "log2_rank_lift",
    "mass_accuracy",
    "rank_accuracy",
    "auprc",
    "pointing_game",
)

NULLS = {
    "centre_prior": Term("Centre prior", "A blob in the middle of every image."),
    "random_smooth": Term("Random smooth map", "Random blobs."),
    "edge": Term("Edges", "The edges of the image, whatever they belong to."),
    "sobel": Term("Edges", "The edges of the image, whatever they belong to."),
    "local_contrast": Term(
        "Local contrast", "Whatever differs from its surroundings, without asking the model."
    ),
    "mean_mask_of_others": Term(
        "Average mask of others", "Where the other patients' lesions lie on average."
    ),
    "average_mask": Term("Average mask of others", "Where the other patients' lesions lie on average."),
    "random_weights": Term(
        "Random-weight twins", "The same method on the same network with random weights; mean over several."
    ),
    "shuffled_labels": Term(
        "Shuffled-label twin", "The same method on the same network trained on shuffled labels."
    ),
    "experts": Term("Experts among themselves", "One expert’s marks taken as the map, another’s as truth."),
}

SHARES = {
    "outside": Term("Outside the field", "Relevance outside the brain or the camera's field of view."),
    "rim": Term("In its rim", "Relevance in the rim of the brain or field of view."),
    "log2_rim_density": Term(
        "Rim density (log₂)", "Relevance per point in the rim over that of the whole field; 0 is even."
    ),
    "checkerboard": Term(
        "Grid pattern",
        "Share of a map’s variance between neighbouring points: near 0 for a smooth map, about ¾ for white "
        "noise, 1 for a checkerboard, which some networks leave in their maps.",
    ),
}

SKILL = {
    "auc": "Area under the ROC curve",
    "auroc": "Area under the ROC curve",
    "skill_auc": "Area under the ROC curve",
    "balanced_accuracy": "Balanced accuracy",
}


def metric_key(name: str) -> str:
    """Return the name of a metric as this module knows it."""
    return _ALIASES.get(name, name)


def method(name: str) -> Term:
    """Explain a method."""
    return METHODS.get(name, Term(plain(name), ""))


def metric(name: str) -> Term:
    """Explain a measure of agreement."""
    return METRICS.get(metric_key(name), Term(plain(name), ""))


def null(name: str) -> Term:
    """Explain a null map."""
    short = name.removeprefix("null:")
    return NULLS.get(_NULL_ALIASES.get(short, short), Term(plain(short), ""))


def share(name: str) -> Term:
    """Explain a share of relevance."""
    return SHARES.get(name, Term(plain(name), ""))


def skill(name: str) -> str:
    """Name a measure of skill."""
    return SKILL.get(name, plain(name).capitalize())
