"""Names of classes whose ids are WordNet ids (``n01440764``: tench), for figures and pages."""

import re
from functools import cache

WORDNET_ID = re.compile(r"n\d{8}")


def with_name(class_id, separator=" "):
    """Return a class id, followed by its first WordNet lemma if it is a WordNet id.

    Source: the lists of ImageNet's synsets in timm.
    """
    if not WORDNET_ID.fullmatch(class_id):
        return class_id
    name = _lemmas().get(class_id)
    return f"{class_id}{separator}{name}" if name else class_id


def are_descriptions(names, class_ids):
    """Return whether names describe WordNet ids in their order: "tench, Tinca tinca".

    Hugging Face's ImageNet-1K has such names. At least 95% of the first lemmas must be equal, since
    copies differ in a few ("crane2").

    Parameters
    ----------
    names, class_ids : list of str
    """
    if len(names) != len(class_ids) or not all(map(WORDNET_ID.fullmatch, class_ids)):
        return False
    pairs = zip(names, class_ids, strict=True)
    same = sum(name.split(",")[0] == _lemmas().get(class_id) for name, class_id in pairs)
    return same >= 0.95 * len(names)


@cache
def _lemmas():
    """Return {WordNet id: first lemma}."""
    from timm.data import ImageNetInfo

    # ImageNet-1k has a synset that ImageNet-22k lacks (n04399382, teddy).
    listed = [ImageNetInfo(name) for name in ("imagenet-22k", "imagenet-1k")]
    descriptions = {k: v for one in listed for k, v in one.label_descriptions(as_dict=True).items()}
    return {wordnet_id: text.split(",")[0] for wordnet_id, text in descriptions.items()}
