"""Matched pairs: opposite classes, nobody twice together, alike in age and sex, everybody used alike."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pipeline.interventions import Subject, matched_pairs

people = st.builds(
    Subject,
    case=st.just("c"),
    patient=st.just("p"),
    positive=st.booleans(),
    age=st.one_of(st.none(), st.floats(40, 95)),
    sex=st.sampled_from(["", "F", "M"]),
)


@given(st.lists(people, max_size=14), st.integers(1, 30))
def test_pairs_are_of_opposite_classes_and_different(subjects, count):
    pairs = matched_pairs(subjects, count, seed=0)
    positive = sum(s.positive for s in subjects)
    assert len(pairs) == min(count, positive * (len(subjects) - positive))
    assert len(set(pairs)) == len(pairs)
    assert all(subjects[p.positive].positive and not subjects[p.negative].positive for p in pairs)
    if pairs:
        for members in (Counter(p.positive for p in pairs), Counter(p.negative for p in pairs)):
            assert max(members.values()) - min(members.values()) <= 2


def test_age_and_sex_decide_who_is_paired():
    positive = True
    subjects = [
        Subject("a", "a", positive, 60, "F"),
        Subject("b", "b", positive, 80, "M"),
        Subject("c", "c", not positive, 81, "M"),
        Subject("d", "d", not positive, 61, "F"),
    ]
    found = {
        (subjects[p.positive].case, subjects[p.negative].case) for p in matched_pairs(subjects, 2, seed=3)
    }
    assert found == {("a", "d"), ("b", "c")}
