"""Cohort tables: all mistakes at once, one line each, and nothing that is not a name becomes a file name."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.cohort import Case, check_case, read_cohort
from pipeline.errors import CohortError

CLASSES = ("healthy", "ill")


def table(folder, text, name="cohort.csv"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def photograph(path, shape=(8, 9, 3)):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, shape, np.uint8)).save(path)


def test_a_table_gives_paths_relative_to_itself_marks_and_covariates(tmp_path):
    head = "case,patient,image,label,eye,age,sex,site,marks_haemorrhages\n"
    text = head + "a1,p1,i/a.png,1,left,70,f,x,m1.tif;m2.tif\n"
    cohort = read_cohort(table(tmp_path, text))
    (case,) = cohort.cases
    assert case.image == tmp_path / "i/a.png"
    assert case.marks == {"haemorrhages": (tmp_path / "m1.tif", tmp_path / "m2.tif")}
    assert case.covariates == {"eye": "left", "age": "70", "sex": "f", "site": "x"}
    assert cohort.patients_given
    assert case.class_index(CLASSES) == 1


def test_tsv_with_byte_order_mark_and_class_names(tmp_path):
    cohort = read_cohort(table(tmp_path, "\ufeffcase\timage\tlabel\na\ta.nii\till\n", "c.tsv"))
    assert cohort.cases[0].class_index(CLASSES) == 1
    assert cohort.cases[0].patient == "a"
    assert not cohort.patients_given


def test_all_mistakes_of_a_table_come_in_one_line(tmp_path):
    text = "case,image,age\n../x,a.png,70\nb,,70\nb,c.png,old\n"
    with pytest.raises(CohortError) as caught:
        read_cohort(table(tmp_path, text))
    line = str(caught.value)
    assert "\n" not in line
    for part in ("line 2", "../x", "line 3: image is empty", "'old'", "'b' stands there 2 times"):
        assert part in line


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "no case"),
        ("image\na.png\n", "'case' is missing"),
        ("case,image,name\na,b,Smith\n", "unknown column 'name'"),
        ("case;image\na;b.png\n", "not separated by commas"),
        ("case,image,label,label\na,b.png,0,1\n", "'label' stands there twice"),
        ("case,image,marks_../x\na,b.png,m.png\n", "lesion type"),
        ("case,image,marks_\na,b.png,m.png\n", "lesion type"),
        (f"case,image\na,{'x' * 200_000}\n", "line 2: cannot be read"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, text, word):
    with pytest.raises(CohortError, match=word):
        read_cohort(table(tmp_path, text))


@given(st.text(max_size=70))
def test_a_case_name_is_letters_digits_underscore_hyphen_or_refused(name):
    import re
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = table(Path(folder), f'case,image\n"{name.replace(chr(34), chr(34) * 2)}",a.png\n')
        try:
            cohort = read_cohort(path)
        except CohortError:
            return
        assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", case.case) for case in cohort.cases)


def test_check_names_every_problem_of_a_case_and_raises_nothing(tmp_path):
    photograph(tmp_path / "a.png")
    photograph(tmp_path / "m.png", (3, 3, 3))
    case = Case("a", "a", tmp_path / "a.png", "7", {"exudates": (tmp_path / "m.png", tmp_path / "gone.tif")})
    problems = check_case(case, "fundus", CLASSES)
    assert {p.file for p in problems} == {"", "m.png", "gone.tif"}
    assert all(str(p).startswith("case a: ") for p in problems)
    assert check_case(Case("a", "a", tmp_path / "a.png", "1"), "fundus", CLASSES) == []


def test_an_mri_declared_as_photograph_is_one_line(tmp_path):
    (problem,) = check_case(Case("a", "a", tmp_path / "scan.nii.gz"), "fundus", CLASSES)
    assert "scan.nii.gz" in str(problem)


def test_idrid_layout(tmp_path):
    images = tmp_path / "1. Original Images" / "a. Training Set"
    marks = tmp_path / "2. All Segmentation Groundtruths" / "a. Training Set" / "1. Microaneurysms"
    images.mkdir(parents=True)
    marks.mkdir(parents=True)
    photograph(images / "IDRiD_01.jpg")
    Image.new("1", (9, 8), 1).save(marks / "IDRiD_01_MA.tif")
    cohort = read_cohort({"idrid": str(tmp_path)})
    assert cohort.cases[0].marks == {"microaneurysms": (marks / "IDRiD_01_MA.tif",)}
    assert check_case(cohort.cases[0], "fundus", CLASSES) == []
    with pytest.raises(CohortError, match="segmentation folder"):
        read_cohort({"idrid": str(images)})


def test_a_label_of_many_digits_is_refused_not_an_overflow():
    with pytest.raises(CohortError, match="not a class"):
        Case("a", "a", Path(), "9" * 400).class_index(CLASSES)


def test_lines_are_counted_as_an_editor_does(tmp_path):
    text = 'case,image,site\na,a.png,"two\nlines"\n\n,,\n../x,b.png,s\n'
    with pytest.raises(CohortError, match=r"line 6: case '\.\./x'"):
        read_cohort(table(tmp_path, text))


def test_a_name_broken_over_two_lines_is_not_glued_together(tmp_path):
    with pytest.raises(CohortError, match="is not 1–64 letters"):
        read_cohort(table(tmp_path, 'case,image\n"a\nb",a.png\n'))


def test_a_missing_file_is_named_without_the_folders_of_the_machine(tmp_path):
    case = Case("a", "a", tmp_path / "gone.png", None, {"x": (tmp_path / "m.png",)})
    problems = check_case(case, "fundus", CLASSES)
    assert {p.file for p in problems} == {"gone.png", "m.png"}
    assert not any(str(tmp_path) in str(p) for p in problems)


def test_a_name_too_long_for_a_file_is_a_missing_file(tmp_path):
    (problem,) = check_case(Case("a", "a", tmp_path / ("x" * 5000)), "fundus", CLASSES)
    assert "not found" in str(problem)
