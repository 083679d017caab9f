"""timm's interface on our networks, and other PyTorch tools, used as in their own documentation."""

import copy

import numpy as np
import pytest
import torch
from publishers import import_torchvision
from support import SMALL, batch
from test_torch import build
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import weights
import zoo
from backends.torch import network as backend
from zoo.errors import SpecError
from zoo.language.complexity import counted_by
from zoo.language.model import configure
from zoo.language.trace import trace
from zoo.models import MODELS


@pytest.fixture(scope="module")
def net():
    model = configure(MODELS["inception_v3"], width=0.25, num_classes=7, aux=False)
    return build(model, weights.calibrated(model))


@pytest.fixture(scope="module")
def x(net):
    return torch.from_numpy(batch(net.spec, 139, 139, 2))


@torch.no_grad()
def test_features_then_head_is_forward(net, x):
    features = net.forward_features(x)
    assert features.shape[1] == net.num_features == net.head_hidden_size
    assert torch.equal(net.forward_head(features), net(x))
    pooled = net.forward_head(features, pre_logits=True)
    assert torch.equal(net.get_classifier()(pooled), net(x))
    hidden = zoo.build("googlenet", "torch", aux=True, train=True, width=0.25)
    assert hidden.forward_features(torch.zeros(1, 3, 224, 224)).shape == (1, hidden.num_features, 7, 7)


@torch.no_grad()
def test_another_classifier(net, x):
    other = copy.deepcopy(net)
    other.reset_classifier(10)
    assert other(x).shape == (2, 10)
    assert (other.num_classes, other.spec.num_classes, other.pretrained_cfg["num_classes"]) == (10, 10, 10)
    arrays = backend.dump(other)
    fresh = weights.initial(configure(net.spec, num_classes=10))
    assert np.array_equal(arrays["head.fc.weight"], fresh["head.fc.weight"])
    assert np.array_equal(arrays["conv2d_1a_3x3.conv.weight"], backend.dump(net)["conv2d_1a_3x3.conv.weight"])
    backend.load(zoo.build(other.spec, "torch"), arrays)
    other.reset_classifier(0)
    assert torch.equal(other(x), net.forward_head(net.forward_features(x), pre_logits=True))
    with pytest.raises(SpecError, match="global_pool must be 'avg', not 'max'"):
        other.reset_classifier(3, "max")
    with pytest.raises(SpecError, match="it returns feature maps and has no classifier"):
        zoo.build(SMALL, "torch", features_only=True).reset_classifier(3)


@torch.no_grad()
def test_feature_info_describes_the_maps(x):
    taps = zoo.build("inception_v3", "torch", width=0.25, features_only=True)
    for feature, info in zip(taps(x), taps.feature_info, strict=True):
        assert feature.shape[1] == info["num_chs"]
        assert abs(139 / feature.shape[2] - info["reduction"]) < info["reduction"] / 2
    assert taps.feature_info.reduction() == [2, 4, 8, 16, 32]
    assert taps.feature_info.module_name() == list(taps.spec.taps)


def test_timms_optimizers(net):
    import_torchvision()
    from timm.optim import create_optimizer_v2

    optimizer = create_optimizer_v2(net, opt="sgd", lr=0.1, weight_decay=1e-4)
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    for parameter in net.parameters():
        assert decays[id(parameter)] == (1e-4 if parameter.ndim > 1 else 0)
    layered = create_optimizer_v2(net, opt="adamw", lr=0.1, weight_decay=0.05, layer_decay=0.7)
    scales = {id(p): group["lr_scale"] for group in layered.param_groups for p in group["params"]}
    assert len(scales) == len(list(net.parameters()))
    assert scales[id(net.head.fc.weight)] == 1
    assert scales[id(net.conv2d_1a_3x3.conv.weight)] < scales[id(net.mixed_7c.branch0.conv.weight)] < 1


def test_timms_moving_average(net, x):
    import_torchvision()
    from timm.utils import ModelEmaV3

    average = ModelEmaV3(net, decay=0.9)
    average.update(net)
    with torch.no_grad():
        torch.testing.assert_close(average.module(x), net(x))


def test_captum_attributes(net, x):
    from captum import attr

    net = copy.deepcopy(net)
    small = x[:1].requires_grad_()
    with torch.no_grad():
        gain = (net(small) - net(torch.zeros_like(small)))[0, 3]
    integrated = attr.IntegratedGradients(net).attribute(small, target=3, n_steps=24)
    assert float(integrated.sum()) == pytest.approx(float(gain), rel=0.2)
    assert not torch.equal(
        attr.GuidedBackprop(net).attribute(small, target=3), attr.Saliency(net).attribute(small, target=3, abs=False)
    )


def test_captums_grad_cam_is_ours(net):
    from captum import attr

    from zoo.data.images import sample_photographs
    from zoo.prediction import grad_cam

    image = sample_photographs()[1]
    label = zoo.predict(net, image)["pred_label"]
    inputs = torch.from_numpy(zoo.preprocess(net.spec, image))[None].requires_grad_()
    for stage in ("mixed_6e", "mixed_7c"):
        theirs = attr.LayerGradCam(net, getattr(net, stage)).attribute(inputs, target=label, relu_attributions=True)
        theirs = theirs[0, 0].detach().numpy()
        ours = grad_cam(net, image, stage=stage)
        np.testing.assert_allclose(ours, theirs / theirs.max(), rtol=0, atol=1e-5)


def test_pytorch_grad_cam_draws_ours(net):
    """It resizes the map to the image, and scales it to [0, 1]."""
    import cv2
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    from zoo.data.images import sample_photographs
    from zoo.prediction import grad_cam

    image, side = sample_photographs()[1], net.spec.size
    label = zoo.predict(net, image)["pred_label"]
    inputs = torch.from_numpy(zoo.preprocess(net.spec, image))[None]
    with GradCAM(model=net, target_layers=[net.mixed_7c]) as cam:
        theirs = cam(input_tensor=inputs, targets=[ClassifierOutputTarget(label)])[0]
    ours = cv2.resize(grad_cam(net, image, stage="mixed_7c").astype(np.float32), (side, side))
    np.testing.assert_allclose((ours - ours.min()) / np.ptp(ours), theirs, rtol=0, atol=1e-5)


def test_counters_of_operations_agree_with_the_spec(net):
    import torchinfo
    from fvcore import nn as nn_fvcore

    side = net.spec.size
    one = torch.zeros(1, 3, side, side)
    figures = trace(net.spec)
    analysis = nn_fvcore.FlopCountAnalysis(net, one)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    by_operator = analysis.by_operator()
    assert by_operator["conv"] + by_operator["linear"] == figures.macs
    assert by_operator["conv"] + by_operator["linear"] + by_operator["batch_norm"] == counted_by(net.spec)["fvcore"]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(one)
    assert counter.get_total_flops() == 2 * figures.macs
    summary = torchinfo.summary(net, input_size=(1, 3, side, side), verbose=0)
    assert summary.total_params == figures.trainable
    assert isinstance(net, nn.Module)


def test_a_module_that_shares_weights_under_two_names_is_opened(tmp_path):
    """As Lightning saves a module that keeps a network and a part of it; the file has the bytes once."""
    net = zoo.build(SMALL, "torch")
    tied = torch.nn.ModuleDict({"model": net, "features": torch.nn.Sequential(*list(net.children())[:-1])})
    torch.save({"state_dict": tied.state_dict()}, tmp_path / "tied.ckpt")
    arrays, about = weights.read(tmp_path / "tied.ckpt", model=SMALL)
    assert about["model"] == "small"
    assert all(np.array_equal(array, arrays[name]) for name, array in backend.dump(net).items())
