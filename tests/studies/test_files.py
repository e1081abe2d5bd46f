"""Study files and selections."""

from __future__ import annotations

import pytest

from goaldriven.errors import SpecError, StudyError
from goaldriven.studies.files import (
    load_study,
    parse_selection,
    select,
    shipped_studies,
    study_from_yaml,
)


@pytest.mark.parametrize("name", shipped_studies())
def test_shipped_studies_are_valid_and_their_names_match(name):
    study = load_study(name)
    assert study.name == name
    assert study.networks()


def test_the_digits_study_is_the_one_described():
    study = load_study("studies/digits.yaml")
    assert {r.name for r in study.rules} == {"sgdm", "adam", "fa", "ia"}
    assert len(study.networks()) == 4 * 5 * 3 * 3 * 2 * 2


def test_the_demo_has_about_48_networks():
    assert len(load_study("demo").networks()) == 48


def test_selection_keeps_the_levels_asked_for(tiny_study):
    chosen = select(tiny_study, parse_selection("rule=fa,model_seed=1"))
    assert [n.label for n in chosen] == ["digits/knet4/fa/b32/m1/d0"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rule", "only must be factor=level"),
        ("rool=ia", "only: factor must be one of"),
        ("rule=ia,rule=fa", "only must give each factor once, got rule twice"),
    ],
)
def test_bad_selections_are_refused(text, message):
    with pytest.raises(SpecError, match=message):
        parse_selection(text)


def test_a_level_the_study_lacks_is_refused(tiny_study):
    with pytest.raises(StudyError, match=r"only: rule must be one of fa, sgdm; got 'ia'"):
        select(tiny_study, {"rule": "ia"})


def test_a_key_given_twice_is_refused():
    with pytest.raises(SpecError, match="epochs must be given once"):
        study_from_yaml("name: a\nepochs: 3\nepochs: 4\n")
