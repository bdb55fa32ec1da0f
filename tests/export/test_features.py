"""Features of cards, beside those that `datasets` derives itself."""

import pyarrow as pa
import pytest
from stillhouse.data.distilled_set import SCHEMA
from stillhouse.evaluation.label_tables import table_schema
from stillhouse.export.features import features

SOFT = [table_schema(encoding, True, 10) for encoding in ("float16", "int8", "top3")]
LEARNED = SCHEMA.append(pa.field("learned_label", pa.list_(pa.float32(), 10)))


@pytest.mark.parametrize("schema", [SCHEMA, LEARNED, *SOFT], ids=lambda schema: schema.names[-1])
def test_features_are_those_that_datasets_derives_from_the_file(schema, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    from datasets import Features, Image, Value

    own = Features._from_yaml_list(features(schema))
    derived = Features.from_arrow_schema(pa.schema(list(schema)))
    for field in schema:
        if field.name == "image":
            assert own["image"] == Image()
        elif pa.types.is_fixed_size_binary(field.type):
            assert own[field.name] == Value("binary")
        else:
            assert own[field.name] == derived[field.name], field.name


def test_labels_have_the_names_of_classes():
    classes = ["n01440764", "no", "0"]
    (label,) = features(pa.schema([("label", pa.int64())]), classes)
    names = {"0": "n01440764", "1": "no", "2": "0"}
    assert label == {"name": "label", "dtype": {"class_label": {"names": names}}}
