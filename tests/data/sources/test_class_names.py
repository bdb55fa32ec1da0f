import pytest
from stillhouse.data.sources.catalogue import published_classes
from stillhouse.data.sources.class_names import with_name


@pytest.mark.parametrize(
    "class_id, expected",
    [
        ("n01440764", "n01440764 tench"),
        ("n03394916", "n03394916 French horn"),
        ("airplane", "airplane"),
        ("n1", "n1"),
        ("n99999999", "n99999999"),
    ],
)
def test_a_wordnet_id_is_followed_by_its_first_word(class_id, expected):
    assert with_name(class_id) == expected


@pytest.mark.parametrize("listed", ["imagenet1k", "tinyimagenet"])
def test_every_class_of_a_published_list_has_a_name(listed):
    assert all(" " in with_name(class_id) for class_id in published_classes(listed))
