"""Groups of maps in a report: half a page where there are none, a part a group where there are."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.record.clusters import Cluster, Clustering, TraitRow
from pipeline.record.small_maps import small_map
from pipeline.record.trust import Trust
from reports.blocks import Callout, Part, Picture, Text
from reports.context import Context
from reports.sections.clusters import build


def clustering(record, *, separate, alarm=False, called=True):
    rng = np.random.default_rng(0)
    dots = [
        (float(x), float(y), int(i < 4) if separate else -1)
        for i, (x, y) in enumerate(rng.uniform(-1, 1, (14, 2)))
    ]
    rows, columns = np.mgrid[:64, :64] - 31.5
    field = rows**2 + columns**2 < 30**2
    mean = small_map(np.ones((64, 64)), field)
    names = [case.case for case in record.cases if case.page]
    traits = [
        TraitRow(name="share_outside", inside=0.69, outside=0.27, n=9, p_adjusted=0.0001),
        TraitRow(name="site", level="north", inside=0.9, outside=0.1, n=9, p_adjusted=0.004),
        TraitRow(name="age", inside=71.0, outside=60.5, n=9, p_adjusted=0.03),
    ]
    groups = [
        Cluster(cases=names * 2, typical=names, mean_map=(mean / mean.sum()).ravel().tolist(), traits=t)
        for t in ([], traits if alarm else [])
    ]
    return Clustering(
        method="lrp",
        called=called,
        n=14,
        neighbours=2,
        within=0.4,
        valley=0.1,
        null=0.6,
        p_adjusted=0.002 if separate else 0.4,
        separate=separate,
        alarm=alarm,
        clusters=groups if separate else [],
        scatter=dots,
        shown=separate,
    )


@pytest.fixture
def context(tmp_path, tools):
    def made(**options):
        record = tools.make_record("fundus", pages=2)
        few = Clustering(method="lrp", called=False, n=4, reason="4 maps with relevance, 12 are needed")
        trust = Trust(clusters=[clustering(record, **options), few])
        record = record.model_copy(update={"trust": trust})
        return Context(tools.write_audit(tmp_path / "audit", record), record, tmp_path)

    return made


def texts(blocks):
    return " ".join(b.text for b in blocks if isinstance(b, Text))


def test_nothing_found_is_one_sentence_and_a_plot(context):
    section = build(context(separate=False))
    assert [type(b) for b in section.blocks] == [Text, Picture, Text]
    assert "No separate groups were found" in texts(section.blocks)
    assert "4 maps with relevance, 12 are needed (LRP)" in texts(section.blocks)


def test_an_alarm_says_what_its_group_has_and_shows_both(context):
    made = context(separate=True, alarm=True)
    section = build(made)
    box = section.blocks[0]
    assert isinstance(box, Callout)
    assert box.items[0] == (
        "LRP, cases called referable, group 2: more relevance outside the field of view: 69 %, the others "
        "27 % (p <\N{NO-BREAK SPACE}0.001); more often site north: 90 %, the others 10 % (p = 0.004); "
        "age: 71.0, the others 60.5 (p = 0.030)."
    )
    assert "1 of 100 cohorts" in texts(section.blocks)
    parts = [b for b in section.blocks if isinstance(b, Part)]
    assert [p.title for p in parts] == [
        "LRP, cases called referable: group 1 of 2",
        "LRP, cases called referable: group 2 of 2",
    ]
    pictures = [b for p in parts for b in p.blocks if isinstance(b, Picture)]
    assert len(pictures) == 2
    assert all((made.scratch / p.path).stat().st_size > 10_000 for p in pictures)


def test_groups_alone_are_no_alarm(context):
    made = context(separate=True)
    made.record.experts.smallest_group = 4
    section = build(made)
    assert not any(isinstance(b, Callout) for b in section.blocks)
    assert "no group differs from the other cases" in texts(section.blocks)
    parts = [b for b in section.blocks if isinstance(b, Part)]
    assert all("Nothing known sets them apart" in texts(p.blocks) for p in parts)


def test_a_group_of_few_patients_is_not_said_to_be_like_the_others(context):
    section = build(context(separate=True))
    assert "fewer than 6 patients" in texts(section.blocks)
    assert "no group differs" not in texts(section.blocks)
    parts = [b for b in section.blocks if isinstance(b, Part)]
    assert all("Too few patients to ask" in texts(p.blocks) for p in parts)


def test_without_arrays_the_page_has_no_picture(context):
    made = context(separate=True, alarm=True)
    for path in (made.folder / "cases").glob("*.npz"):
        path.unlink()
    parts = [b for b in build(made).blocks if isinstance(b, Part)]
    assert not any(isinstance(b, Picture) for p in parts for b in p.blocks)


def test_no_trust_no_section(context):
    made = context(separate=False)
    made.record = made.record.model_copy(update={"trust": None})
    assert build(made) is None
    made.record = made.record.model_copy(update={"trust": Trust()})
    assert build(made) is None
