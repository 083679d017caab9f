"""FID, KID and Inception score of two folders, by `zoo fid` in every framework, by torch-fidelity and by pytorch-fid:
`python tests/peers/fidelity.py` prints the table of docs/fid.md.

The folders are handwritten digits, and the same digits disturbed; the weights are random, and the same for all. Exits
with 1 when a figure differs by more than `TOLERANCE`, or a feature by more than `FEATURE_TOLERANCE`.
"""

import json
import logging
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

sys.path.insert(0, str(Path(__file__).parents[2]))
from publishers import import_torchvision

import weights
from zoo.frameworks import FRAMEWORKS
from zoo.models import MODELS

TOLERANCE, FEATURE_TOLERANCE = 1e-4, 5e-6
IMAGES, SUBSET, SPLITS = 120, 50, 4
NAMES = ("64", "192", "768", "2048", "logits_unbiased", "logits")


def make(folder):
    """Digits as images of 64 pixels, and a copy with noise, inverted in part."""
    random = np.random.default_rng(0)
    for name in ("digits", "disturbed"):
        (folder / name).mkdir()
    for index, digit in enumerate(load_digits().images[:IMAGES]):
        pixels = np.kron(digit / 16, np.ones((8, 8)))[..., None] * np.array([255, 200, 120])
        noisy = np.clip(pixels + random.normal(0, 40, pixels.shape), 0, 255)
        for name, array in (("digits", pixels), ("disturbed", noisy)):
            Image.fromarray(array.astype(np.uint8)).save(folder / name / f"{index:04}.png")


def ours(backend, pipeline, folder, checkpoint):
    """The document of `zoo fid`."""
    sets = [folder / "digits", folder / "disturbed"]
    extra = ["--kid", "--kid-subset-size", SUBSET, "--score", "--splits", SPLITS, "--batch", 20]
    words = [
        "-m",
        "zoo",
        "fid",
        *sets,
        "--backend",
        backend,
        "--pipeline",
        pipeline,
        "--checkpoint",
        checkpoint,
        *extra,
    ]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *map(str, words), "--json", "-"], capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout)


def features(backend, folder, checkpoint, out):
    """Our features of the first images of the digits, in a process of its own."""
    code = (
        "import sys, numpy as np; from pathlib import Path; from zoo.fidelity.compare import extractor\n"
        "from zoo.fidelity.features import FEATURES, batches\n"
        "e = extractor(set(FEATURES), sys.argv[1], sys.argv[2])\n"
        "files = sorted(Path(sys.argv[3]).glob('*.png'))[:4]\n"
        "np.savez(sys.argv[4], **e(next(batches(files, e.model, 4))))"
    )
    words = ["-W", "ignore", "-c", code, backend, checkpoint, folder, out]
    subprocess.run([sys.executable, *map(str, words)], check=True, capture_output=True)
    return dict(np.load(out))


def torch_fidelitys(folder, checkpoint):
    import torch_fidelity

    found = torch_fidelity.calculate_metrics(
        input1=str(folder / "digits"), input2=str(folder / "disturbed"), cuda=False, fid=True, kid=True, isc=True,
        cache=False, verbose=False, kid_subset_size=SUBSET, isc_splits=SPLITS, batch_size=20,
        feature_extractor_weights_path=str(checkpoint),
    )  # fmt: skip
    return {
        "fid": found["frechet_inception_distance"],
        "kid": found["kernel_inception_distance_mean"],
        "inception_score": found["inception_score_mean"],
    }


def torch_fidelitys_features(folder, checkpoint):
    import torch
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    net = FeatureExtractorInceptionV3("fid", list(NAMES), feature_extractor_weights_path=str(checkpoint))
    files = sorted(folder.glob("*.png"))[:4]
    images = np.stack([np.asarray(Image.open(file)) for file in files]).transpose(0, 3, 1, 2)
    return dict(zip(NAMES, (each.numpy() for each in net(torch.from_numpy(images))), strict=True))


def pytorch_fids(folder, checkpoint):
    import torch
    from pytorch_fid import fid_score, inception

    inception.load_state_dict_from_url = lambda *_, **__: torch.load(checkpoint, weights_only=True)
    sets = [str(folder / name) for name in ("digits", "disturbed")]
    return {"fid": float(fid_score.calculate_fid_given_paths(sets, 20, torch.device("cpu"), 2048, num_workers=0))}


def main():
    logging.disable(logging.WARNING)
    import_torchvision()
    good = True
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make(folder)
        model, checkpoint = MODELS["inception_v3.fid"], folder / "weights.pth"
        weights.write(checkpoint, weights.calibrated(model), model, to="torch_fidelity")
        print("| pipeline | computed by | FID | KID | Inception score |\n|---|---|---|---|---|")
        for pipeline, theirs in (("torch-fidelity", torch_fidelitys), ("pytorch-fid", pytorch_fids)):
            expected = theirs(folder, checkpoint)
            rows = {f"{pipeline} itself": expected}
            for backend in FRAMEWORKS:
                document = ours(backend, pipeline, folder, checkpoint)
                rows[f"zoo fid, {backend}"] = {
                    name: document[name] if name == "fid" else document[name]["mean"]
                    for name in ("fid", "kid", "inception_score")
                }
            for name, row in rows.items():
                cells = [f"{row[key]:.6g}" if key in row else "" for key in ("fid", "kid", "inception_score")]
                print(f"| {pipeline} | {name} | {' | '.join(cells)} |")
                worst = max(abs(row[key] / value - 1) for key, value in expected.items())
                if worst > TOLERANCE:
                    good = False
                    print(f"{name}: {worst:.1e} beyond {TOLERANCE:g}")
        theirs = torch_fidelitys_features(folder / "digits", checkpoint)
        print(f"\n| features | {' | '.join(FRAMEWORKS)} |\n|---|{'---|' * len(FRAMEWORKS)}")
        found = {b: features(b, folder / "digits", checkpoint, folder / f"{b}.npz") for b in FRAMEWORKS}
        for name in NAMES:
            errors = [np.abs(found[b][name] - theirs[name]).max() / np.abs(theirs[name]).max() for b in FRAMEWORKS]
            print(f"| {name} | {' | '.join(f'{error:.1e}' for error in errors)} |")
            good &= max(errors) <= FEATURE_TOLERANCE
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
