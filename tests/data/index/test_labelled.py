"""What label maps say of the classes that a network tells, and what is refused before anything is built."""

from pathlib import Path

import pytest

from voco_cli.config import load_settings
from voco_cli.data.case_labels import CaseLabels
from voco_cli.data.index.datalist import Datalist, Entry, LabelSet
from voco_cli.data.index.labelled import labels_of, suit_classes
from voco_cli.errors import UsageError

DATA = Path("data.json")
SETS = {
    "lits": LabelSet(values={"1": ("liver",), "2": ("liver tumour", "liver")}, ignore=3),
    "btcv": LabelSet(values={"6": ("liver",), "1": ("spleen",)}),
}


def entry(name: str, label_set: str | None, classes: tuple[str, ...]) -> Entry:
    label = Path(f"{name}_seg.nii.gz") if label_set or classes else None
    return Entry(image=Path(f"{name}.nii.gz"), label=label, patient=name, label_set=label_set, labelled_classes=classes)


def listed(**changes: object) -> Datalist:
    held = {
        "classes": ("spleen", "liver", "liver tumour"),
        "regions": {"liver": ("liver tumour",)},
        "label_sets": SETS,
        "training": (
            entry("a", "lits", ("liver", "liver tumour")),
            entry("b", "btcv", ("liver", "spleen")),
            entry("c", None, ()),
        ),
    }
    return Datalist(**{**held, **changes})  # type: ignore[arg-type]


def test_values_stand_for_places_in_the_list_of_classes() -> None:
    found = labels_of(listed(), ("spleen", "liver", "liver tumour"), DATA)
    assert found == {
        Path("a.nii.gz"): CaseLabels(complete=(1, 2), values=((1, (1,)), (2, (2, 1))), ignore=3),
        Path("b.nii.gz"): CaseLabels(complete=(0, 1), values=((1, (0,)), (6, (1,)))),
    }
    only = labels_of(listed(), ("spleen",), DATA)
    assert only == {Path("b.nii.gz"): CaseLabels(complete=(0,), values=((1, (0,)), (6, ())))}


def test_a_class_that_an_entry_does_not_name_is_unknown_there() -> None:
    short = listed(training=(entry("a", "lits", ("liver",)),))
    (found,) = labels_of(short, ("liver", "liver tumour"), DATA).values()
    assert found == CaseLabels(complete=(0,), values=((1, (0,)), (2, (0,))), ignore=3)


def test_names_of_the_list_itself_do_where_there_are_no_sets() -> None:
    plain = listed(label_sets={}, labels={"0": "background", "4": "spleen"}, training=(entry("a", None, ("spleen",)),))
    assert labels_of(plain, ("spleen",), DATA) == {Path("a.nii.gz"): CaseLabels(complete=(0,), values=((4, (0,)),))}


def test_a_value_with_a_name_is_listed_whoever_learns_it() -> None:
    """As `leave_out` of a class map leaves it: among the names, and not among the values."""
    own = LabelSet(names={"1": "liver", "2": "bed", "3": "ignore"}, values={"1": ("liver",)}, ignore=3)
    short = listed(label_sets={"lits": own}, training=(entry("a", "lits", ("liver",)),))
    (found,) = labels_of(short, ("liver",), DATA).values()
    assert found == CaseLabels(complete=(0,), values=((1, (0,)),), ignore=3, left_out=(2,))
    assert found.unlisted([0, 9, 1, 2, 3, 7]) == [7, 9]
    plain = listed(label_sets={}, labels={"4": "spleen", "5": "bed"}, training=(entry("a", None, ("spleen",)),))
    (found,) = labels_of(plain, ("spleen",), DATA).values()
    assert found.unlisted([4, 5, 6]) == [6]


def silent() -> Entry:
    return Entry(image=Path("x.nii.gz"), label=Path("x_seg.nii.gz"), patient="x")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"training": (silent(),)}, "data.json has 1 label map without labelled_classes (x)."),
        (
            {"training": (entry("a", "lits", ("lung",)),)},
            "data.json has labelled_classes that are none of its classes: lung.",
        ),
        ({"training": (entry("a", "amos", ("liver",)),)}, "data.json has no label set amos."),
    ],
)
def test_what_nobody_can_learn_from_is_one_sentence(changes: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        labels_of(listed(**changes), ("liver",), DATA)
    assert caught.value.message == said
    assert "--class-map" in str(caught.value.hint)


def test_settings_take_the_classes_of_the_list() -> None:
    resolved = load_settings("supervised")
    suited = suit_classes(resolved, listed(), DATA)
    options = suited.settings.objective.supervised
    assert options.classes == ("spleen", "liver", "liver tumour")
    assert options.inside == [(1, (2,))]
    assert suited.sources["objective.supervised.classes"] == "classes of data.json"
    assert suit_classes(load_settings("cvpr"), listed(), DATA).settings == load_settings("cvpr").settings


def test_some_classes_are_asked_for() -> None:
    suited = suit_classes(load_settings("supervised", None, ["objective.supervised.classes=[liver]"]), listed(), DATA)
    assert suited.settings.objective.supervised.classes == ("liver",)
    assert suited.settings.objective.supervised.regions == ()
    asked = load_settings("supervised", None, ["objective.supervised.classes=[lung]"])
    with pytest.raises(UsageError) as caught:
        suit_classes(asked, listed(), DATA)
    assert caught.value.message == "objective.supervised.classes names lung, which data.json does not have."


def test_a_class_inside_itself_is_refused() -> None:
    loop = listed(regions={"liver": ("liver tumour",), "liver tumour": ("liver",)})
    with pytest.raises(UsageError, match=r"objective\.supervised\.regions puts 'liver' inside itself\.") as caught:
        suit_classes(load_settings("supervised"), loop, DATA)
    assert caught.value.hint == "mend it, or the regions of data.json"


def test_a_list_without_labels_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        suit_classes(load_settings("supervised"), listed(training=(entry("c", None, ()),)), DATA)
    assert caught.value.message == (
        "objective.supervised learns from label maps, and no training scan of data.json has one of named classes."
    )


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("crops.input_size=128x128x128", "takes crops as they are, and crops.input_size 128x128x128 is not crops.size"),
        ("objective.supervised.deep_supervision=1", "deep_supervision 1 is more than the 0 of swinunetr"),
    ],
)
def test_settings_that_do_not_fit_are_refused(override: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        load_settings("supervised", None, [override])


@pytest.mark.parametrize(
    "override",
    [
        "objective.supervised.regions=[{name: liver, classes: [tumour]}]",
        "objective.pseudo.thresholds=[{name: tumour, threshold: 0.8}]",
    ],
)
def test_a_rule_about_a_class_that_is_not_there_is_refused(override: str) -> None:
    with pytest.raises(UsageError) as caught:
        suit_classes(load_settings("supervised", None, [override]), listed(), DATA)
    assert caught.value.message == (
        "objective.supervised.regions or objective.pseudo.thresholds names tumour, which no class is called."
    )
