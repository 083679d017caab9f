"""The naming tables: expansion, and that every one is a bijection over all tensors of its models."""

import numpy as np
import pytest

from weights import SOURCES, Source, initial
from weights.names import Table, expand
from zoo.errors import WeightsError
from zoo.frameworks import CONVENTIONS
from zoo.language.model import configure
from zoo.language.trace import parameters
from zoo.models import MODELS

TABLES = [(source, model) for source, table in SOURCES.items() for model in table.models]


def test_braces_expand_in_step():
    assert list(expand(("f.{6..8}", "mixed_5{b..d}"))) == [
        ("f.6", "mixed_5b"),
        ("f.7", "mixed_5c"),
        ("f.8", "mixed_5d"),
    ]
    assert list(expand(("a{1,2}.{x,y}", "b{3,4}.{0,1}"))) == [
        ("a1.x", "b3.0"),
        ("a1.y", "b3.1"),
        ("a2.x", "b4.0"),
        ("a2.y", "b4.1"),
    ]
    assert list(expand(("fc", "head.fc"))) == [("fc", "head.fc")]


def test_braces_out_of_step():
    with pytest.raises(WeightsError, match="have different lengths"):
        list(expand(("f.{6..8}", "mixed_5{b..c}")))


@pytest.mark.parametrize(("source", "name"), TABLES)
def test_tables_are_bijections(source, name):
    model = MODELS[name]
    keys = SOURCES[source].naming(model).keys
    assert keys.keys() == {n for n in parameters(model) if not n.endswith(SOURCES[source].models[name].without)}
    assert len(set(keys.values())) == len(keys)


@pytest.mark.parametrize(("source", "name"), TABLES)
def test_every_row_is_used(source, name):
    keys = SOURCES[source].naming(MODELS[name]).keys
    for row in SOURCES[source].models[name].rows:
        for publisher, canonical in expand(row):
            separator = CONVENTIONS[SOURCES[source].framework].separator
            assert any(
                f"{n}.".startswith(f"{canonical}.") and f"{k}{separator}".startswith(f"{publisher}{separator}")
                for n, k in keys.items()
            ), (publisher, canonical)


@pytest.mark.parametrize(("source", "name"), TABLES)
def test_reading_what_was_written_gives_the_same_bits(source, name):
    model = configure(MODELS[name], width=0.25)
    arrays = initial(model)
    again = SOURCES[source].naming(model).read(SOURCES[source].naming(model).write(arrays))
    assert again.keys() == arrays.keys()
    for name_, array in arrays.items():
        np.testing.assert_allclose(again[name_], array, rtol=2e-7 if name_ in SOURCES[source].models[name].scale else 0)


def test_linear_weights_are_turned_for_frameworks_that_store_them_in_out():
    model = configure(MODELS["googlenet"], width=0.25)
    source = Source("paddle", {"googlenet": Table(tuple((part, part) for part in model.parts))})
    arrays = initial(model)
    written = source.naming(model).write(arrays)
    assert written["head.fc.weight"].shape == arrays["head.fc.weight"].shape[::-1]
    assert "mixed_3b.branch0.bn._variance" in written
    assert all(np.array_equal(array, arrays[name]) for name, array in source.naming(model).read(written).items())


def test_torch_counters_are_passed_over():
    model = configure(MODELS["inception_v4"], width=0.25)
    written = SOURCES["timm"].naming(model).write(initial(model))
    counter = {"features.0.bn.num_batches_tracked": np.array(5)}
    assert SOURCES["timm"].naming(model).read(written | counter).keys() == parameters(model).keys()


def test_what_does_not_fit_is_named_as_the_publisher_names_it():
    model = configure(MODELS["inception_v4"], width=0.25)
    written = SOURCES["timm"].naming(model).write(initial(model))
    del written["last_linear.bias"]
    written["classifier.bias"] = np.zeros(1, np.float32)
    with pytest.raises(WeightsError, match=r"1 missing: last_linear.bias; 1 surplus: classifier.bias"):
        SOURCES["timm"].naming(model).read(written)


def test_tables_that_are_not_bijections():
    model = MODELS["googlenet"]
    with pytest.raises(WeightsError, match=r"no row of the naming table claims conv2d_2b_1x1\.conv\.weight"):
        _ = Source("torch", {"googlenet": Table((("conv1", "conv2d_1a_7x7"),))}).naming(model).keys
    with pytest.raises(WeightsError, match=r"two tensors would be called same\.conv\.weight"):
        _ = Source("torch", {"googlenet": Table(tuple(("same", part) for part in model.parts))}).naming(model).keys


def test_a_source_without_the_model():
    with pytest.raises(WeightsError, match="inception_v4: this source has no naming table for it; it has googlenet"):
        SOURCES["torchvision"].naming(MODELS["inception_v4"])


def test_conventions_rename_norm_tensors_only():
    rename = CONVENTIONS["mindspore"].rename
    assert rename("mixed_5b.branch0.bn.weight") == "mixed_5b.branch0.bn.gamma"
    assert rename("mixed_5b.branch0.conv.weight") == "mixed_5b.branch0.conv.weight"


@pytest.mark.parametrize(("source", "name"), [("paddleclas", "inception_v3.paddleclas"), ("keras", "xception.keras")])
def test_what_is_written_goes_through_a_file_unchanged(source, name, tmp_path):
    """Safetensors writes views in the order of their memory: transposed arrays must be laid out anew."""
    from safetensors.numpy import load_file, save_file

    model = configure(MODELS[name], width=0.25)
    arrays = initial(model)
    written = {key: np.ascontiguousarray(a) for key, a in SOURCES[source].naming(model).write(arrays).items()}
    save_file(written, tmp_path / "w.safetensors")
    again = SOURCES[source].naming(model).read(load_file(tmp_path / "w.safetensors"))
    for key, array in arrays.items():
        np.testing.assert_allclose(again[key], array, rtol=2e-7)


def test_arrays_that_do_not_fit_are_refused():
    model = configure(MODELS["inception_v4"], width=0.25)
    arrays = initial(model)
    with pytest.raises(WeightsError, match=r"1 missing: head\.fc\.bias"):
        SOURCES["timm"].naming(model).write({key: a for key, a in arrays.items() if key != "head.fc.bias"})
    whole = {key: a.astype(np.int32) for key, a in SOURCES["timm"].naming(model).write(arrays).items()}
    with pytest.raises(WeightsError, match="neither float32 nor float64"):
        SOURCES["timm"].naming(model).read(whole)
