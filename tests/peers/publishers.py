"""Run one of the publishers' own classes: `python tests/peers/publishers.py SOURCE MODEL FOLDER`.

Loads ours.SUFFIX from the folder with the publisher's own strict loader, runs the network on inputs.npy in inference,
and writes outputs.safetensors, "logits", and auxiliary logits under our names; and theirs.SUFFIX with the publisher's
own saver.
"""

import importlib
import importlib.util
import logging
import os
import sys
import types
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file


def timm(model, folder, x):
    import_torchvision()
    import timm

    name = {"xception": "legacy_xception"}.get(model, model)
    options = {"aux_logits": True} if model == "inception_v3" else {}
    net = timm.create_model(name, **options)
    outputs = run_torch(net, folder, x)
    return dict(zip(("logits", "aux"), outputs, strict=True)) if options else {"logits": outputs}


def torchvision(model, folder, x):
    """Auxiliary heads run only in training, so they are called here on the inputs that they would get."""
    models = import_torchvision()
    if model == "resnet50":
        return {"logits": run_torch(models.resnet50(weights=None), folder, x)}
    net = getattr(models, model)(weights=None, init_weights=False)
    if model == "inception_v3":
        heads = {"aux": (net.Mixed_6e, net.AuxLogits)}
    else:
        heads = {"aux1": (net.inception4a, net.aux1), "aux2": (net.inception4d, net.aux2)}
    outputs = {}
    for name, (stage, head) in heads.items():
        stage.register_forward_hook(lambda _, __, y, name=name, head=head: outputs.update({name: head(y)}))
    outputs["logits"] = run_torch(net, folder, x)
    return outputs


def cadene(model, folder, x):
    """Files of 1001 classes are loaded by a class of 1001 classes, as the published ones are."""
    import_torchvision()
    import torch

    name = {"inception_v4": "inceptionv4", "inception_resnet_v2": "inceptionresnetv2"}.get(model, model)
    module = importlib.import_module(f"pretrainedmodels.models.{name}")
    classes = len(torch.load(folder / "ours.pth", weights_only=True)["last_linear.bias"])
    return {"logits": run_torch(getattr(module, name)(num_classes=classes, pretrained=None), folder, x)}


def mindcv(model, folder, x):
    import mindcv
    import mindspore as ms

    options = {"aux_logits": True} if model == "googlenet.mindcv" else {}
    net = mindcv.create_model(model.removesuffix(".mindcv"), **options)
    left = ms.load_param_into_net(net, ms.load_checkpoint(str(folder / "ours.ckpt")), strict_load=True)
    assert left == ([], []), left
    ms.save_checkpoint(net, str(folder / "theirs.ckpt"))
    x = ms.Tensor(x)
    if model == "googlenet.mindcv":
        # no batch norm: in training, with dropout off, it computes what it does in inference, and the auxiliary logits
        net.set_train()
        for _, cell in net.cells_and_names():
            if isinstance(cell, ms.nn.Dropout):
                cell.set_train(False)
        return dict(zip(("logits", "aux2", "aux1"), net(x), strict=True))
    net.set_train(False)
    aux = {"aux": net.aux(net.forward_preaux(x))} if model == "inception_v3.mindcv" else {}
    return {"logits": net(x), **aux}


def paddleclas(model, folder, x):
    backbone = import_paddleclas()
    import paddle

    module, name = {
        "googlenet.paddleclas": ("model_zoo.googlenet", "GoogLeNet"),
        "inception_v3.paddleclas": ("legendary_models.inception_v3", "InceptionV3"),
        "inception_v4.paddleclas": ("model_zoo.inception_v4", "InceptionV4"),
        "xception41.paddleclas": ("model_zoo.xception", "Xception41"),
        "xception65.paddleclas": ("model_zoo.xception", "Xception65"),
        "xception71.paddleclas": ("model_zoo.xception", "Xception71"),
        "xception41.paddleclas_deeplab": ("model_zoo.xception_deeplab", "Xception41_deeplab"),
        "xception65.paddleclas_deeplab": ("model_zoo.xception_deeplab", "Xception65_deeplab"),
    }[model]
    net = getattr(importlib.import_module(f"{backbone}.{module}"), name)()
    arrays = paddle.load(str(folder / "ours.pdparams"))
    assert set(net.state_dict()) == set(arrays)
    assert net.set_state_dict(arrays) == ([], [])
    paddle.save(net.state_dict(), str(folder / "theirs.pdparams"))
    net.eval()
    with paddle.no_grad():
        outputs = net(paddle.to_tensor(x))
    return (
        dict(zip(("logits", "aux1", "aux2"), outputs, strict=True))
        if isinstance(outputs, list)
        else {"logits": outputs}
    )


def keras(model, folder, x):
    os.environ["KERAS_BACKEND"] = "torch"
    import keras

    name = {
        "inception_v3.keras": "InceptionV3",
        "inception_resnet_v2": "InceptionResNetV2",
        "xception.keras": "Xception",
    }
    net = getattr(keras.applications, name[model])(weights=None, classifier_activation=None)
    net.load_weights(folder / "ours.h5")
    legacy = [np.array(value) for value in net.get_weights()]
    net.load_weights(folder / "ours.weights.h5")
    assert all(np.array_equal(a, b) for a, b in zip(legacy, net.get_weights(), strict=True))
    for saved in ("theirs.weights.h5", "theirs.h5", "theirs.keras"):
        net.save_weights(folder / saved) if "weights" in saved else net.save(folder / saved)
    bare = getattr(keras.applications, name[model])(weights=None, include_top=False)
    bare.set_weights(net.get_weights()[:-2])
    bare.save(folder / "bare.h5")
    return {"logits": keras.ops.convert_to_numpy(net(np.ascontiguousarray(x.transpose(0, 2, 3, 1)), training=False))}


def pytorch_fid(model, folder, x):
    import_torchvision()
    import torch
    from pytorch_fid import inception

    inception.load_state_dict_from_url = lambda *_, **__: torch.load(folder / "ours.pth", weights_only=True)
    return {"logits": run_torch(inception.fid_inception_v3(), folder, x)}


def torch_fidelity(model, folder, x):
    """Its class resizes and normalises 8-bit images itself: here it gets what becomes `x`."""
    import_torchvision()
    from torch_fidelity import feature_extractor_inceptionv3 as module

    module.vassert, module.interpolate_bilinear_2d_like_tensorflow1x = (lambda *_: None), (lambda x, **_: x)
    net = module.FeatureExtractorInceptionV3(
        "fid", ["logits", "2048"], feature_extractor_weights_path=folder / "ours.pth"
    )
    return {"logits": run_torch(net, folder, x * 128 + 128)[0]}


def run_torch(net, folder, x):
    import torch

    net.load_state_dict(torch.load(folder / "ours.pth", weights_only=True), strict=True)
    torch.save(net.state_dict(), folder / "theirs.pth")
    with torch.no_grad():
        return net.eval()(torch.from_numpy(x))


def import_torchvision():
    """torchvision.models next to a CPU-only torch: the operators its import looks for, declared without a body."""
    import torch

    if not hasattr(torch.ops.torchvision, "nms"):
        library = torch.library.Library("torchvision", "FRAGMENT")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define(
            "roi_align(Tensor input, Tensor rois, float spatial_scale, int pooled_height, int pooled_width, "
            "int sampling_ratio, bool aligned) -> Tensor"
        )
        import_torchvision.library = library
    return importlib.import_module("torchvision").models


def import_paddleclas():
    """The backbones without the package around them, which imports detection, retrieval and plotting libraries."""
    root = Path(importlib.util.find_spec("paddleclas").origin).parent / "ppcls"
    for name in ("ppcls", "ppcls.arch", "ppcls.arch.backbone", "ppcls.utils"):
        package = types.ModuleType(name)
        package.__path__ = [str(root.joinpath(*name.split(".")[1:]))]
        sys.modules[name] = package
    loader = types.ModuleType("ppcls.utils.save_load")
    loader.load_dygraph_pretrain = loader.load_dygraph_pretrain_from_url = None
    sys.modules[loader.__name__] = loader
    importlib.import_module("ppcls.utils.logger")._logger = logging.getLogger("ppcls")
    return "ppcls.arch.backbone"


def as_array(value):
    if isinstance(value, np.ndarray):
        return value
    return value.asnumpy() if hasattr(value, "asnumpy") else value.detach().numpy()


PUBLISHERS = {
    f.__name__: f for f in (timm, torchvision, cadene, mindcv, paddleclas, keras, pytorch_fid, torch_fidelity)
}

if __name__ == "__main__":
    source, model, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    outputs = PUBLISHERS[source](model, folder, np.load(folder / "inputs.npy"))
    arrays = {name: np.ascontiguousarray(as_array(value)) for name, value in outputs.items()}
    save_file(arrays, folder / "outputs.safetensors")
    sys.stdout.flush()
    os._exit(0)  # at a normal exit MindSpore 2.8 prints an ignored exception for every cell
