"""The published networks: their figures, from the spec alone, and their variants."""

import pickle

import pytest

import zoo
from zoo.builder import resolve_taps
from zoo.errors import SpecError
from zoo.language.model import configure
from zoo.language.trace import parameters, trace
from zoo.models import MODELS

FIGURES = [
    # name, parameters, with auxiliary heads, GMACs at the native size without them: the publishers' own figures, but
    # for GMACs of googlenet.paddleclas (published with heads: see below) and for those without a publisher to measure:
    # TF-slim's, published with 1001 classes and without gammas (below), and inception_resnet_v1, counted by hand.
    ("bninception", 11_295_240, 11_295_240, 2.033),
    ("googlenet", 6_624_904, 13_004_888, 1.498),
    ("googlenet.mindcv", 6_991_272, 13_370_744, 1.583),
    ("googlenet.paddleclas", 6_991_272, 11_535_736, 1.432),
    ("googlenet.slim", 6_624_904, 6_624_904, 1.498),
    ("inception_resnet_v1", 22_756_328, 22_756_328, 6.206),
    ("inception_resnet_v2", 55_843_464, 55_843_464, 13.156),
    ("inception_resnet_v2.slim", 55_843_464, 59_211_120, 13.156),
    ("inception_v3", 23_834_568, 27_161_264, 5.713),
    ("inception_v3.fid", 23_850_960, 23_850_960, 5.713),
    ("inception_v3.keras", 23_834_568, 23_834_568, 5.713),
    ("inception_v3.mindcv", 23_834_568, 27_161_264, 5.713),
    ("inception_v3.paddleclas", 23_834_568, 23_834_568, 5.713),
    ("inception_v4", 42_679_816, 42_679_816, 12.254),
    ("inception_v4.mindcv", 42_679_816, 42_679_816, 12.254),
    ("inception_v4.paddleclas", 42_679_816, 42_679_816, 12.254),
    ("inception_v4.slim", 42_679_816, 46_039_280, 12.254),
    ("xception", 22_855_952, 22_855_952, 8.357),
    ("xception.keras", 22_855_952, 22_855_952, 8.357),
    ("xception.mindcv", 22_855_952, 22_855_952, 8.357),
    ("xception41", 26_969_560, 26_969_560, 9.204),
    ("xception41.paddleclas", 22_919_600, 22_919_600, 8.498),
    ("xception41.paddleclas_deeplab", 26_969_560, 26_969_560, 9.204),
    ("xception41p", 26_907_752, 26_907_752, 9.204),
    ("xception65", 39_916_312, 39_916_312, 13.853),
    ("xception65.paddleclas", 35_866_352, 35_866_352, 13.147),
    ("xception65.paddleclas_deeplab", 39_916_312, 39_916_312, 13.853),
    ("xception65p", 39_819_560, 39_819_560, 13.853),
    ("xception71", 42_338_736, 42_338_736, 17.947),
    ("xception71.paddleclas", 37_678_496, 37_678_496, 16.084),
]

WITHOUT_GAMMAS = [
    # name, classes, auxiliary heads, trainable parameters as published by TF-slim and Keras
    ("googlenet.slim", 1001, False, 6_618_649),
    ("inception_v3.mindcv", 1001, False, 23_819_401),
    ("inception_v3.mindcv", 1001, True, 27_145_970),
    ("inception_v3.keras", 1000, False, 23_817_352),
    ("inception_v4.slim", 1001, False, 42_649_769),
    ("inception_v4.slim", 1001, True, 46_009_106),
    ("inception_resnet_v2.slim", 1001, False, 55_814_729),
    ("inception_resnet_v2.slim", 1001, True, 59_182_258),
    ("inception_resnet_v2", 1000, False, 55_813_192),
]


def test_figures_with_a_background_class_and_with_auxiliary_heads():
    assert trace(configure(MODELS["inception_v4"], num_classes=1001)).trainable == 42_681_353
    with_aux = {name: round(trace(MODELS[name]).macs / 1e9, 3) for name in ("googlenet.paddleclas", "inception_v3")}
    assert with_aux == {"googlenet.paddleclas": 1.437, "inception_v3": 5.719}


@pytest.mark.parametrize(("name", "classes", "aux", "count"), WITHOUT_GAMMAS)
def test_figures_without_gammas(name, classes, aux, count):
    traced = trace(configure(MODELS[name], num_classes=classes, aux=aux))
    gammas = sum(p.count for p in traced.parameters.values() if p.name.endswith(".bn.weight"))
    assert traced.trainable - gammas == count


def test_inception_v4s_macs_to_the_unit():
    assert zoo.info("inception_v4")["macs"] == 12_253_974_624


def test_inception_resnet_v1_by_hand():
    """Figures 10 to 15 of the paper, convolution by convolution: (inputs, outputs, kernel pixels), and the shapes."""
    model = MODELS["inception_resnet_v1"]
    stem = [(3, 32, 9), (32, 32, 9), (32, 64, 9), (64, 80, 1), (80, 192, 9), (192, 256, 9)]
    a = [(256, 32, 1), (256, 32, 1), (32, 32, 9), (256, 32, 1), (32, 32, 9), (32, 32, 9)]
    reduction_a = [(256, 384, 9), (256, 192, 1), (192, 192, 9), (192, 256, 9)]
    b = [(896, 128, 1), (896, 128, 1), (128, 128, 7), (128, 128, 7)]
    reduction_b = [(896, 256, 1), (256, 384, 9), (896, 256, 1), (256, 256, 9)]
    reduction_b += [(896, 256, 1), (256, 256, 9), (256, 256, 9)]
    c = [(1792, 192, 1), (1792, 192, 1), (192, 192, 3), (192, 192, 3)]
    boxes = stem + 5 * a + reduction_a + 10 * b + reduction_b + 5 * c
    linear = 5 * (96 * 256 + 256) + 10 * (256 * 896 + 896) + 5 * (384 * 1792 + 1792) + 1792 * 1000 + 1000
    assert trace(model).trainable == sum(i * o * k + 2 * o for i, o, k in boxes) + linear
    stages = trace(model).stages
    assert stages["conv2d_4b_3x3"] == (256, 35, 35)
    assert stages["mixed_6a"] == (896, 17, 17)
    assert stages["mixed_7a"] == stages["block8"] == (1792, 8, 8)


@pytest.mark.parametrize(("name", "count", "with_aux", "macs"), FIGURES)
def test_figures(name, count, with_aux, macs):
    figures = zoo.info(name)
    assert figures["parameters"] == count
    assert figures["parameters_with_aux"] == with_aux
    assert round(figures["macs"] / 1e9, 3) == macs
    assert sum(stage["macs"] for stage in figures["stages"]) < figures["macs"]


def test_a_hash_is_kept_but_not_copied_to_other_processes():
    model = configure(MODELS["googlenet"], width=0.5)
    assert hash(model) == hash(configure(MODELS["googlenet"], width=0.5)) != hash(MODELS["googlenet"])
    again = pickle.loads(pickle.dumps(model))
    assert again == model
    assert vars(again).keys() < vars(model).keys()
    assert hash(again) == hash(model)


def test_the_table_is_complete():
    assert [row[0] for row in FIGURES] == zoo.list_models() == sorted(MODELS)


def test_info_at_another_size():
    assert zoo.info("inception_v4", 331)["stages"][-1]["height"] == 9
    with pytest.raises(SpecError, match="size must be at least 75 pixels, not 74"):
        zoo.info("inception_v4", 74)


def test_list_models_takes_a_pattern():
    assert zoo.list_models("inception_v3*") == [
        "inception_v3",
        "inception_v3.fid",
        "inception_v3.keras",
        "inception_v3.mindcv",
        "inception_v3.paddleclas",
    ]


def test_an_unknown_model_gets_near_names():
    with pytest.raises(SpecError, match="unknown model 'inceptionv4': did you mean inception_v4"):
        zoo.spec("inceptionv4")


def test_width_rounds_every_channel_to_a_multiple_of_8():
    narrow = trace(configure(MODELS["googlenet"], width=0.3))
    assert all(op.outputs.channels % 8 == 0 for op in narrow.ops if op.path.split(".")[-1] not in ("head", "2"))
    assert narrow.stages["mixed_3b"].channels == 16 + 40 + 8 + 8
    assert configure(MODELS["googlenet"], width=1.0) == MODELS["googlenet"]


def test_classes_reach_every_classifier():
    schema = parameters(configure(MODELS["googlenet"], num_classes=7, in_channels=1))
    assert [schema[f"{head}.fc.weight"].shape[0] for head in ("head", "aux1.2", "aux2.2")] == [7, 7, 7]
    assert schema["conv2d_1a_7x7.conv.weight"].shape == (64, 1, 7, 7)


def test_taps_cut_the_network_after_the_last():
    model = configure(MODELS["inception_v3"], taps=("mixed_6e", "mixed_5d", "mixed_5d"))
    assert model.taps == ("mixed_5d", "mixed_6e")
    assert model.stages[-1].name == "mixed_6e"
    assert model.head is None
    assert model.aux == ()


def test_out_indices():
    model = MODELS["inception_v3"]
    assert resolve_taps(model, None) == ("conv2d_2b_3x3", "conv2d_4a_3x3", "mixed_5d", "mixed_6e", "mixed_7c")
    assert resolve_taps(model, (0, -1, "mixed_6a")) == ("conv2d_2b_3x3", "mixed_7c", "mixed_6a")


@pytest.mark.parametrize("index", [5, -6, "mixed_9z", 1.5, None])
def test_out_indices_out_of_range(index):
    with pytest.raises(SpecError, match=rf"out_indices has {index!r}: expected -5 to 4 .* mixed_7c"):
        resolve_taps(MODELS["inception_v3"], (index,))


def test_out_indices_empty():
    with pytest.raises(SpecError, match="out_indices is empty"):
        resolve_taps(MODELS["inception_v3"], ())


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"num_classes": 0}, "num_classes must be an integer of at least 1, not 0"),
        ({"num_classes": 2.5}, "num_classes must be an integer of at least 1, not 2.5"),
        ({"in_channels": -1}, "in_channels must be an integer of at least 1, not -1"),
        ({"width": 0}, "width must be above 0"),
        ({"width": float("nan")}, "width must be above 0"),
        ({"drop_rate": 1.5}, "drop_rate must be at least 0 and below 1, not 1.5"),
    ],
)
def test_options_out_of_range(choices, message):
    with pytest.raises(SpecError, match=message):
        configure(MODELS["googlenet"], **choices)


SETTINGS = [
    # name, eps, decay, dropout, input, shorter side, filter, mean and std (half: 0.5, 0.5): facts of the publishers
    ("bninception", 1e-5, 0.9, 0.0, 224, 256, "bilinear", "caffe"),
    ("googlenet", 1e-3, 0.9, 0.2, 224, 256, "bilinear", "half"),
    ("googlenet.mindcv", None, None, 0.2, 224, 256, "bilinear", "imagenet"),
    ("googlenet.paddleclas", None, None, 0.4, 224, 256, "bilinear", "imagenet"),
    ("googlenet.slim", 1e-3, 0.9997, 0.2, 224, 256, "bilinear", "half"),
    ("inception_resnet_v1", 1e-3, 0.9, 0.2, 299, 341, "bilinear", "half"),
    ("inception_resnet_v2", 1e-3, 0.9, 0.0, 299, 333, "bicubic", "half"),
    ("inception_resnet_v2.slim", 1e-3, 0.9997, 0.2, 299, 341, "bilinear", "half"),
    ("inception_v3", 1e-3, 0.9, 0.5, 299, 342, "bilinear", "half"),
    ("inception_v3.fid", 1e-3, 0.9, 0.0, 299, 299, "tf1_bilinear", "uint8"),
    ("inception_v3.keras", 1e-3, 0.99, 0.0, 299, 341, "bilinear", "half"),
    ("inception_v3.mindcv", 1e-3, 0.9997, 0.2, 299, 341, "bilinear", "imagenet"),
    ("inception_v3.paddleclas", 1e-5, 0.9, 0.2, 299, 320, "bilinear", "imagenet"),
    ("inception_v4", 1e-3, 0.9, 0.0, 299, 341, "bicubic", "half"),
    ("inception_v4.mindcv", 1e-3, 0.9997, 0.2, 299, 341, "bilinear", "imagenet"),
    ("inception_v4.paddleclas", 1e-5, 0.9, 0.2, 299, 320, "bilinear", "imagenet"),
    ("inception_v4.slim", 1e-3, 0.9997, 0.2, 299, 341, "bilinear", "half"),
    ("xception", 1e-5, 0.9, 0.0, 299, 333, "bicubic", "half"),
    ("xception.keras", 1e-3, 0.99, 0.0, 299, 341, "bilinear", "half"),
    ("xception.mindcv", 1e-5, 0.9, 0.5, 299, 341, "bilinear", "imagenet"),
    ("xception41", 1e-3, 0.9, 0.0, 299, 331, "bicubic", "half"),
    ("xception41.paddleclas", 1e-5, 0.9, 0.0, 299, 320, "bilinear", "imagenet"),
    ("xception41.paddleclas_deeplab", 1e-3, 0.99, 0.5, 299, 320, "bilinear", "imagenet"),
    ("xception41p", 1e-5, 0.9, 0.0, 299, 318, "bicubic", "half"),
    ("xception65", 1e-3, 0.9, 0.0, 299, 318, "bicubic", "half"),
    ("xception65.paddleclas", 1e-5, 0.9, 0.0, 299, 320, "bilinear", "imagenet"),
    ("xception65.paddleclas_deeplab", 1e-3, 0.99, 0.5, 299, 320, "bilinear", "imagenet"),
    ("xception65p", 1e-3, 0.9, 0.0, 299, 318, "bicubic", "half"),
    ("xception71", 1e-3, 0.9, 0.0, 299, 331, "bicubic", "half"),
    ("xception71.paddleclas", 1e-5, 0.9, 0.0, 299, 320, "bilinear", "imagenet"),
]
MEANS = {
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "uint8": ((128 / 255,) * 3, (128 / 255,) * 3),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "caffe": ((104 / 255, 117 / 255, 128 / 255), (1 / 255, 1 / 255, 1 / 255)),
}


@pytest.mark.parametrize(("name", "eps", "decay", "dropout", "size", "resize", "interpolation", "mean"), SETTINGS)
def test_settings(name, eps, decay, dropout, size, resize, interpolation, mean):
    model = MODELS[name]
    assert (model.norm.eps, model.norm.decay) == (eps, decay) if eps else model.norm is None
    assert model.head.dropout == dropout
    assert model.size == size
    assert (model.preprocess.resize, model.preprocess.interpolation) == (resize, interpolation)
    assert (model.preprocess.mean, model.preprocess.std) == MEANS[mean]
    assert [aux.node.nodes[-1].dropout for aux in model.aux] == (
        [0.7] * 2 if len(model.aux) == 2 else [0.0] * len(model.aux)
    )


def test_the_table_of_settings_is_complete():
    assert [row[0] for row in SETTINGS] == zoo.list_models()
