"""Protocols: every mistake named at once; paths relative to the file."""

import pytest
import yaml

from pipeline.errors import ProtocolError
from pipeline.protocol import Protocol, load_protocol

GOOD = {
    "schema": "relevance-audit-protocol/1",
    "modality": "mri",
    "model": "alzheimer",
    "cohort": "cohort.csv",
    "target": 1,
    "methods": ["gradient", {"name": "occlusion", "options": {"patch": 8}}],
    "atlas": "AAL",
    "disease": "alzheimer",
    "criteria": [{"name": "skill_auc", "at_least": 0.75}],
    "seed": 0,
}


def write(folder, **changes):
    path = folder / "p.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in (GOOD | changes).items() if v is not None}))
    return path


def test_names_are_methods_and_paths_are_relative_to_the_file(tmp_path):
    protocol = load_protocol(write(tmp_path))
    assert [m.name for m in protocol.methods] == ["gradient", "occlusion"]
    assert protocol.cohort == str(tmp_path / "cohort.csv")
    assert protocol.model == "alzheimer"
    assert load_protocol(write(tmp_path, model="./bundle")).model == str(tmp_path / "bundle")


def test_as_yaml_says_the_same(tmp_path):
    protocol = load_protocol(write(tmp_path))
    assert Protocol.model_validate(yaml.safe_load(protocol.as_yaml())) == protocol


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": None, "modality": "ct"}, ("seed", "modality")),
        ({"methods": []}, ("methods",)),
        ({"methods": ["lrp", "lrp"]}, ("lrp", "twice")),
        ({"criteria": [{"name": "skill_auc"}]}, ("either at_least or at_most",)),
        ({"colour": 3}, ("colour",)),
        ({"seed": 2**32}, ("seed",)),  # more than scikit-learn takes, found out after hours
        ({"nulls": ["centre", "sobel", "centre"]}, ("nulls: centre", "twice")),
        ({"twins": {"methods": ["lrp", "lrp"]}}, ("twins.methods: lrp", "twice")),
        (
            {"cues": [{"name": "a", "image": "a.png", "place": [0, 0], "width": 0.1}] * 2},
            ("cues: a", "twice"),
        ),
    ],
)
def test_mistakes_are_named_in_one_line(tmp_path, changes, words):
    with pytest.raises(ProtocolError) as caught:
        load_protocol(write(tmp_path, **changes))
    assert "\n" not in str(caught.value)
    for word in (*words, "p.yaml"):
        assert word in str(caught.value)


def test_no_file_no_yaml_no_table(tmp_path):
    with pytest.raises(ProtocolError, match="not found"):
        load_protocol(tmp_path / "none.yaml")
    for text in ("a: [", "- 1", "!!python/object/apply:os.system ['true']"):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(ProtocolError, match=r"bad\.yaml"):
            load_protocol(tmp_path / "bad.yaml")


@pytest.mark.parametrize(
    "changes", [{"target": True}, {"criteria": [{"name": "skill_auc", "at_least": float("nan")}]}]
)
def test_what_only_looks_like_a_number_is_refused(tmp_path, changes):
    with pytest.raises(ProtocolError, match=r"p\.yaml"):
        load_protocol(write(tmp_path, **changes))
