"""Groups of maps: whether the model decides some cases for another reason than the others (SpRAy)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.record.clusters import Cluster, Clustering, TraitRow
from pipeline.record.small_maps import BRAIN, FUNDUS, enlarged
from reports.blocks import Block, Bullets, Callout, Part, Picture, Section, Text
from reports.context import Arrays, Context
from reports.figures.clusters import Dots, Member, draw_dots, draw_group
from reports.glossary import SHARES, method
from reports.sections.cases import scene_of
from reports.words import class_name, number, p_value, plain, plural

MEAN = "map_mean"
RATE = (
    "Groups are called separate only where maps of one kind would be cut in two as clearly in at most 1 of "
    "100 cohorts, over all methods and answers; a sound cohort gives a false alarm no more often."
)


def build(context: Context) -> Section | None:
    """Build one sentence and a plot where nothing was found, else a page a group."""
    found = context.record.trust
    if found is None or not found.clusters:
        return None
    asked = [c for c in found.clusters if not c.reason]
    separate = [c for c in asked if c.separate]
    blocks: list[Block] = []
    alarms = [c for c in separate if c.alarm]
    if alarms:
        title = "A group of cases may be decided by something else than the rest"
        blocks.append(Callout(title, _alarm(context, [c for c in alarms if c.shown])))
    elif separate:
        blocks += [Text(text) for text in _no_alarm(context, separate)]
    elif asked:
        blocks.append(
            Text(
                "No separate groups were found: maps of cases with the same answer hang together as maps of "
                "one kind do. So nothing shows that some cases are decided by a cue of their own. A cue that "
                "all cases with an answer share makes no group and cannot be seen here; with some 20 maps or "
                "fewer a group is easily missed."
            )
        )
    if asked:
        blocks.append(_plot(context, asked))
    if separate:
        blocks.append(Text(RATE, small=True))
    left_out = _not_asked(context, found.clusters)
    if left_out:
        blocks.append(Text(left_out, small=True))
    for index, clustering in enumerate(c for c in found.clusters if c.shown):
        blocks += _pages(context, index, clustering)
    return Section(
        "clusters",
        "Groups of maps",
        "Does the model decide some cases for another reason than the others?",
        blocks,
    )


def _no_alarm(context: Context, separate: Sequence[Clustering]) -> list[str]:
    """Say of separate groups that nothing sets them apart, or that too few patients are in one to tell."""
    told: dict[bool, list[str]] = {}
    for clustering in separate:
        compared = any(_compared(context, clustering, cluster) for cluster in clustering.clusters)
        told.setdefault(compared, []).append(_which(context, clustering))
    sentences = []
    if True in told:
        sentences.append(
            f"Maps fall into separate groups ({'; '.join(told[True])}), but no group differs from the other "
            "cases in what is known of them, and its relevance does not lie outside the anatomy more than "
            "theirs. It may be a kind of the disease; look at the pages that follow."
        )
    if False in told:
        sentences.append(
            f"Maps fall into separate groups ({'; '.join(told[False])}), one of them of fewer than "
            f"{context.record.experts.smallest_group} patients. With so few it was not asked whether site, "
            "sex, age or class set it apart; look at the pages that follow, and audit more cases."
        )
    return sentences


def _compared(context: Context, clustering: Clustering, cluster: Cluster) -> bool:
    """Whether a group and the other cases have enough patients to be compared."""
    inside = len(cluster.cases)
    return min(inside, clustering.n - inside) >= context.record.experts.smallest_group


def _alarm(context: Context, alarms: Sequence[Clustering]) -> list[str]:
    """One sentence for every group that has something more often."""
    sentences = []
    for clustering in alarms:
        for n, cluster in enumerate(clustering.clusters):
            if cluster.traits:
                what = "; ".join(_trait(context, trait) for trait in cluster.traits)
                sentences.append(f"{_which(context, clustering)}, group {n + 1}: {what}.")
    return [*sentences, "Look at the pages of these groups: what lies under the relevance may be a shortcut."]


def _which(context: Context, clustering: Clustering) -> str:
    return f"{method(clustering.method).title}, {_called(context, clustering)}"


def _called(context: Context, clustering: Clustering) -> str:
    name = class_name(context.record.target, context.record.model.classes)
    return f"cases called {name}" if clustering.called else f"cases not called {name}"


def _trait(context: Context, trait: TraitRow) -> str:
    """Say what a group has more often, or higher, than the other cases."""
    inside, others = _share(trait.inside), _share(trait.outside)
    if trait.name == "share_outside":
        anatomy = "brain" if context.record.modality == "mri" else "field of view"
        what = f"more relevance outside the {anatomy}"
    elif trait.level:
        name = "true class" if trait.name == "label" else plain(trait.name)
        what = f"more often {name} {trait.level}"
    else:
        what = "more relevance in the rim (log₂ density)" if trait.name in SHARES else plain(trait.name)
        inside, others = number(trait.inside), number(trait.outside)
    p = p_value(trait.p_adjusted)
    return f"{what}: {inside}, the others {others} (p {p if p.startswith('<') else f'= {p}'})"


def _share(value: float) -> str:
    return f"{100 * value:.0f} %"


def _plot(context: Context, asked: Sequence[Clustering]) -> Block:
    panels = [Dots(method(c.method).title, _remark(c), c.scatter) for c in asked]
    told = [f"{p.title}, {p.remark}: {_groups(c)}." for p, c in zip(panels, asked, strict=True)]
    path, relative = context.figure_path("clusters.svg")
    draw_dots(path, panels)
    name = class_name(context.record.target, context.record.model.classes)
    return Picture(
        relative,
        alt=f"Maps as points. {' '.join(told)}",
        caption=f"Every point is the map of one patient, like maps beside each other (t-SNE; distances and "
        f"axes mean nothing). For: cases called {name}, relevance that speaks for it; against: the other "
        "cases, relevance against it. Colour and shape: separate groups, grey where there are none. p: how "
        "often maps of one kind are cut in two as clearly, corrected for all plots (SpRAy, Lapuschkin 2019).",
    )


def _remark(clustering: Clustering) -> str:
    p = p_value(clustering.p_adjusted)
    side = "for" if clustering.called else "against"
    return f"{side} · {plural(clustering.n, 'map')} · p {p if p.startswith('<') else f'= {p}'}"


def _groups(clustering: Clustering) -> str:
    if not clustering.separate:
        return "no separate groups"
    return f"groups of {', '.join(str(len(c.cases)) for c in clustering.clusters)}"


def _not_asked(context: Context, clusterings: Sequence[Clustering]) -> str:
    """Say which maps could not be asked, the same reason once."""
    reasons: dict[str, list[str]] = {}
    for clustering in clusterings:
        if clustering.reason:
            reasons.setdefault(f"{_called(context, clustering)}: {clustering.reason}", []).append(
                method(clustering.method).title
            )
    return " ".join(f"Not asked, {why} ({', '.join(who)})." for why, who in reasons.items())


def _pages(context: Context, index: int, clustering: Clustering) -> list[Block]:
    return [
        Part(
            f"{_which(context, clustering)}: group {n + 1} of {len(clustering.clusters)}",
            _page(context, f"clusters-{index + 1}-{n + 1}.jpg", clustering, cluster),
            new_page=n % 2 == 0,
        )
        for n, cluster in enumerate(clustering.clusters)
    ]


def _page(context: Context, name: str, clustering: Clustering, cluster: Cluster) -> list[Block]:
    traits = [_trait(context, trait) for trait in cluster.traits]
    text = f"{plural(len(cluster.cases), 'case')} of {clustering.n}. "
    if traits:
        text += "Compared with the others:"
    elif _compared(context, clustering, cluster):
        text += "Nothing known sets them apart from the others."
    else:
        text += "Too few patients to ask what sets them apart from the others."
    blocks: list[Block] = [Text(text)]
    if traits:
        blocks.append(Bullets([f"{t[0].upper()}{t[1:]}." for t in traits]))
    members = _members(context, clustering, cluster)
    if members:
        path, relative = context.figure_path(name)
        draw_group(path, members)
        shown = ", ".join(member.title for member in members[1:])
        blocks.append(
            Picture(
                relative,
                alt=f"Mean map of the group, and the maps of its most typical members: {shown}.",
                caption=_caption(context),
            )
        )
    return blocks


def _caption(context: Context) -> str:
    text = "Mean of the group’s maps on a coarse grid, then the maps of its most typical members. "
    if context.record.modality == "mri":
        return text + "All are cut where the mean is strongest. Thin line: border of the brain."
    return text + (
        "The mean stands on an empty field of view, left eyes mirrored inside it; the members as the camera "
        "took them. Thin line: border of the field of view."
    )


def _members(context: Context, clustering: Clustering, cluster: Cluster) -> list[Member]:
    """Return the mean map and the typical cases whose arrays are there."""
    key = f"map_{clustering.method}_class-{context.record.target}"
    found: dict[str, Arrays] = {}
    for case in cluster.typical:
        arrays = context.arrays(case)
        if arrays is not None and {"image", "field", key} <= set(arrays):
            found[case] = arrays
    if not found:
        return []
    members = [
        Member("Mean of the group", scene_of(context.record, _mean(cluster, list(found.values()))), MEAN)
    ]
    for case, arrays in found.items():
        kept = {name: arrays[name] for name in ("image", "field", "affine") if name in arrays}
        values = arrays[key] if clustering.called else -arrays[key]
        members.append(Member(f"Case {case}", scene_of(context.record, kept | {key: values}), key))
    return members


def _mean(cluster: Cluster, of: Sequence[Arrays]) -> dict[str, np.ndarray[Any, Any]]:
    """Spread the mean map over the mean of the typical brains, or over an empty field of view."""
    first = of[0]
    field, affine = np.asarray(first["field"], bool), first.get("affine")
    cells = BRAIN if field.ndim == 3 else FUNDUS
    mean = enlarged(np.reshape(cluster.mean_map, (2, *cells)), field, affine)
    if field.ndim == 3:
        alike = [arrays["image"] for arrays in of if arrays["image"].shape == field.shape]
        image = np.mean(alike, axis=0)
    else:
        image = 0.5 * field[..., None] * np.ones(3)
    made = {"image": image, "field": field, MEAN: mean.astype(np.float32)}
    return made if affine is None else made | {"affine": affine}
