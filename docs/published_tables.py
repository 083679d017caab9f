"""Write docs/published_tables.md: tables that publishers print, beside what this project computes and measures.

    python docs/published_tables.py [--bench FILE]

Published figures are below, each with its source. Ours are computed from the specs, or come from the result of
`zoo bench NETWORKS --backends paddle --mode deploy --batch 1,4,8 --json FILE`; without --bench, the page
keeps its times. `make cards` runs this.
"""

import argparse
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from zoo.cards import facts
from zoo.language.complexity import counted_by
from zoo.language.model import Model
from zoo.language.nodes import Depthwise
from zoo.language.trace import Trace, trace
from zoo.models import MODELS

PAGE = Path(__file__).with_suffix(".md")


class Paddle(NamedTuple):
    """A row of PaddleClas's tables: accuracy, FLOPs in thousand millions and parameters in millions in the newer and
    the older table, milliseconds for 1, 4 and 8 images on a V100, and on a T4 in FP32 and FP16.

    The newer table is docs/zh_CN/models/ImageNet1k/README.md, the older one Inception.md beside it, commit d178931f.
    """

    name: str
    top1: str
    top5: str
    flops: str
    parameters: str
    old_flops: str
    old_parameters: str
    v100: str
    t4: str
    t4_half: str

    @property
    def network(self) -> str:
        """Its name here."""
        base, _, tail = self.name.partition("_")
        return f"{base.replace('InceptionV', 'inception_v').lower()}.paddleclas{tail and '_' + tail}"


PADDLECLAS = [
    Paddle(*line.split())
    for line in """
GoogLeNet 0.7070 0.8966 1.44 11.54 2.88 8.46 1.26/2.84/3.61 1.88/4.49/6.94 1.75/3.40/4.72
InceptionV3 0.7914 0.9459 5.73 23.87 11.46 23.83 3.92/5.98/9.57 6.64/13.54/22.17 3.68/6.36/9.83
InceptionV4 0.8077 0.9526 12.29 42.74 24.57 42.68 7.09/10.95/18.37 12.99/25.23/43.56 9.51/13.72/20.27
Xception41 0.7930 0.9453 8.57 23.02 16.74 22.69 3.20/7.78/14.83 4.97/17.01/32.68 2.91/7.87/15.54
Xception41_deeplab 0.7955 0.9438 9.28 27.08 18.16 26.73 3.34/8.22/15.54 5.34/17.56/33.76 2.86/7.21/14.01
Xception65 0.8100 0.9549 13.25 36.04 25.95 35.48 5.01/11.66/22.49 7.26/25.89/53.45 4.30/11.58/23.22
Xception65_deeplab 0.8032 0.9449 13.96 40.10 27.37 39.52 4.98/11.90/22.94 7.60/26.04/54.75 4.07/9.73/19.48
Xception71 0.8111 0.9545 16.21 37.86 31.77 37.28 5.75/14.11/27.37 8.72/31.56/69.31 4.81/13.56/27.19
""".strip().splitlines()
]

ZHULF = "[zhulf0804's README](https://github.com/zhulf0804/Inceptionv4_and_Inception-ResNetv2.PyTorch), commit 04ca904"

WORST = {
    "inception_v4": (
        "screen 0.16, spotlight 0.22, tiger cat 0.22, laptop 0.22, sunglass 0.22, water jug 0.24, velvet 0.26, "
        "cassette player 0.26, Appenzeller 0.28, maillot 0.34",
        "loupe 0.62, spotlight 0.64, velvet 0.64, restaurant 0.68, hook 0.72, letter opener 0.72, hair slide 0.74, "
        "buckle 0.74, bakery 0.76, fire screen 0.76",
    ),
    "inception_resnet_v2": (
        "screen 0.18, maillot 0.22, tiger cat 0.22, cassette player 0.28, projectile 0.28, sunglass 0.28, "
        "letter opener 0.30, laptop 0.30, spotlight 0.30, English foxhound 0.32",
        "spotlight 0.60, velvet 0.64, loupe 0.64, letter opener 0.66, restaurant 0.70, hook 0.72, Windsor tie 0.74, "
        "chiffonier 0.74, sliding door 0.74, hair slide 0.74",
    ),
}
"""zhulf0804's ten worst classes by top-1 and by top-5 accuracy."""


def bare(network: str) -> Model:
    return replace(MODELS[network], aux=())


def millions(network: str, statistics: bool = False, heads: bool = False) -> str:
    """Parameters, with running statistics, with auxiliary heads."""
    traced = trace(MODELS[network] if heads else bare(network))
    return f"{(traced.trainable + statistics * traced.buffers) / 1e6:.2f}"


def billions(count: float) -> str:
    return f"{count / 1e9:.2f}"


def depthwise(traced: Trace) -> tuple[int, int]:
    """Multiply-adds and weights of depthwise convolutions."""
    ops = [op for op in traced.ops if isinstance(op.node, Depthwise)]
    return sum(op.macs for op in ops), sum(op.parameters[0].count for op in ops)


def verdict(published: str, ours: str) -> str:
    return "same" if float(published) == float(ours) else "differs"


def table(head: str, rows: list[tuple[str, ...]]) -> str:
    titles = [title.strip() for title in head.split("|")]
    lines = [titles, ["---"] * len(titles), *map(list, rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def run_by(network: str, engine: str) -> str:
    """Milliseconds for one image, from docs/speed.md."""
    return next(one for name, one, _ in facts.measured()["models"][network]["milliseconds"] if name == engine)


def zhulf() -> str:
    rows = []
    for network, parameters, flops, milliseconds in (
        ("inception_v4", "42.68", "6.31", "40.54; 38.56 in an earlier commit"),
        ("inception_resnet_v2", "55.84", "6.65", "61.62"),
    ):
        small, usual = (billions(counted_by(bare(network), size)["thop_2019"]) for size in (229, 299))
        ours = millions(network)
        rows += [
            (network, "parameters, M", parameters, ours, verdict(parameters, ours)),
            (
                network,
                "FLOPs, G, at 229 pixels",
                flops,
                small,
                f"{verdict(flops, small)}: multiply-adds, as thop of 2019",
            ),
            (network, "at 299 pixels", "", usual, "computed; the network's own size"),
            (network, "ms for one image, RTX 2080 Ti", milliseconds, "", "published only: needs that card"),
            (network, "on a CPU, PyTorch, eager", "", run_by(network, "torch eager fp32"), "measured"),
            (network, "on a CPU, PyTorch's engine here", "", run_by(network, "torch deploy fp32"), "measured"),
        ]
    return table("network | figure | published | here | verdict", rows)


def zhulf_study() -> str:
    rows = [
        (eps, pad, top1, top5, network)
        for eps, pad, top1, top5, network in (
            ("0.001", "not counted", "40041", "47445", "`inception_v4`"),
            ("0.001", "counted", "39970", "47395", ""),
            ("1e-5", "not counted", "40036", "47438", ""),
        )
    ]
    return table("eps | padding in average pools | top-1, of 50,000 | top-5, of 50,000 | network here", rows)


def worst() -> str:
    rows = [
        (network, top, classes)
        for network, both in WORST.items()
        for top, classes in zip(("top-1", "top-5"), both, strict=True)
    ]
    return table("network | accuracy | published", rows)


def mindcv() -> str:
    rows = []
    for network, parameters, top1, top5, step in (
        ("googlenet.mindcv", "6.99", "72.89", "90.89", "23.5"),
        ("inception_v3.mindcv", "27.20", "79.25", "94.47", "73.43"),
        ("inception_v4.mindcv", "42.74", "80.98", "95.25", "83.24"),
        ("xception.mindcv", "22.91", "76.31", "92.80", "83.40"),
    ):
        heads = network == "inception_v3.mindcv"
        ours = millions(network, statistics=True, heads=heads)
        note = "with running statistics" + " and the auxiliary head" * heads
        rows.append((network, parameters, ours, f"{verdict(parameters, ours)}, {note}", top1, top5, step))
    return table(
        "network | parameters, M | here | verdict | top-1 | top-5 | ms per step of 256 images, 8 Ascend 910", rows
    )


def paddleclas_accuracy() -> str:
    rows = []
    for row in PADDLECLAS:
        heads = row.network == "googlenet.paddleclas"
        flops = billions(counted_by(MODELS[row.network] if heads else bare(row.network))["paddle"])
        parameters = millions(row.network, statistics=True, heads=heads)
        rows.append((row.name, row.top1, row.top5, row.flops, flops, row.parameters, parameters))
        assert (verdict(row.flops, flops), verdict(row.parameters, parameters)) == ("same", "same"), row
    return table("network | top-1 | top-5 | FLOPs, G | here | parameters, M | here", rows)


def paddleclas_older() -> str:
    rows = []
    for row in PADDLECLAS:
        heads = row.network == "googlenet.paddleclas"
        traced = trace(MODELS[row.network] if heads else bare(row.network))
        macs, weights = depthwise(traced)
        classifiers = sum(p.count for p in traced.parameters.values() if re.search(r"\.fc\.(weight|bias)$", p.name))
        count = traced.trainable - (classifiers if heads else weights)
        parameters = f"{count / 1e6:.2f}"
        assert parameters == row.old_parameters, (row, parameters)
        rows.append(
            (
                row.name,
                row.old_flops,
                billions(2 * traced.macs),
                billions(2 * (traced.macs - macs)),
                row.old_parameters,
                millions(row.network),
                parameters,
            )
        )
    return table(
        "network | FLOPs, G | here, all | here, as counted there | parameters, M | here, all | here, as counted there",
        rows,
    )


def paddleclas_speed(times: dict[str, list[str]]) -> str:
    rows = []
    for row in PADDLECLAS:
        cells = [each.replace("/", " / ") for each in (row.v100, row.t4, row.t4_half)]
        rows.append((row.name, *cells, " / ".join(times.get(row.network, []))))
    return table("network | V100, FP32 | T4, FP32 | T4, FP16 | here, CPU, FP32", rows)


def mmpretrain() -> str:
    parameters = f"{trace(bare('inception_v3')).trainable / 1e6:.2f}"
    exact = counted_by(bare("inception_v3"))["mmcv"]
    rows = [
        ("parameters, M", "23.83", parameters, verdict("23.83", parameters)),
        (
            "FLOPs, G",
            "5.75",
            billions(exact),
            f"{verdict('5.75', billions(exact))}: {exact:,}, to the last digit of its metafile",
        ),
        ("top-1", "77.57", "", "published only"),
        ("top-5", "93.58", "", "published only"),
    ]
    return table("figure | published | here | verdict", rows)


SECTIONS: dict[str, Callable[[], str]] = {
    "zhulf": zhulf,
    "zhulf_study": zhulf_study,
    "worst": worst,
    "mindcv": mindcv,
    "paddleclas_accuracy": paddleclas_accuracy,
    "paddleclas_older": paddleclas_older,
    "mmpretrain": mmpretrain,
}

TEXT = """# Published tables, and the same figures here

Made by `make cards`; do not edit. These are the tables that this project started from. A figure is one of three:

- computed here, from the specs, without running anything: parameters and operations
- measured here: times, on the processor that is named
- published only: accuracy needs ImageNet's 50,000 validation images and the publisher's weights. The command that
  would fill the cell is below the table

What a convention counts is in [models/](models/README.md), page by page, and in `zoo.language.complexity`.

## A PyTorch Inception-v4 and Inception-ResNet-v2

{ZHULF}.

{zhulf}
Its script, `misc/op_counter.py`, feeds images of 229 x 229 pixels; the networks take 299 x 299. Its figures in the
README are therefore about half of those that others print for the same networks. Times on a CPU are from
[speed.md](speed.md), on the machine that it names.

Accuracy of Inception-v4 with other epsilons and pools:

{zhulf_study}
Published only. One command evaluates a file with these epsilons and pools:

    python validate.py --model inception_v4 --data_dir imagenet --ckpt_path inceptionv4.pth --study

The ten classes with the lowest accuracy:

{worst}
Published only. `validate.py` prints the ten worst classes, `--worst N` as many as wanted, and `--csv FILE` writes all:

    python validate.py --model inception_v4 --data_dir imagenet --ckpt_path inceptionv4.pth --worst 10

## mindcv

configs/{{googlenet,inceptionv3,inceptionv4,xception}}/README.md, commit 51b0636d.

{mindcv}
Accuracy and times are published only. Times need Ascend processors. mindcv's README says 224 x 224 pixels for xception;
its recipe and its network take 299 x 299. For the accuracy:

    python validate.py --model inception_v4.mindcv --pretrained --data_dir imagenet

## PaddleClas

docs/zh_CN/models/ImageNet1k/README.md, commit d178931f:

{paddleclas_accuracy}
All FLOPs and parameters are the same to the last digit: multiply-adds as `paddle.flops` counts them, parameters with
running statistics, and for GoogLeNet with its auxiliary heads. Accuracy is published only:

    python validate.py --model inception_v4.paddleclas --pretrained --data_dir imagenet

An older table, Inception.md in the same folder, has other figures for the same networks:

{paddleclas_older}
Its FLOPs are two for each multiply-add. The Xceptions are given too low, in both columns, because depthwise
convolutions are left out: without their weights all five parameter counts are the same to the last digit, and the
FLOPs are within 0.6%, which its counter adds for other layers. GoogLeNet's 8.46 M has the auxiliary heads, but none of
the three last linear layers.

Milliseconds for 1 / 4 / 8 images. V100 and T4: PaddleClas's, with TensorRT 8.0.3.4, published only. Here: the Paddle
engine of this project, {machine}:

{paddleclas_speed}
The T4's column says that GoogLeNet was fed 299 x 299 pixels; here it is 224 x 224. Run it on another machine, or with
`--device gpu`:

    zoo bench {networks} --backends paddle --mode deploy --batch 1,4,8

## mmpretrain

configs/inception_v3/metafile.yml, commit 14ced91f.

{mmpretrain}
The weights are torchvision's, evaluated with ImageNet's mean and standard deviation where torchvision's own pipeline
evaluates them with 0.5. The command for the accuracy:

    python validate.py --model inception_v3.mmpretrain_in1k --pretrained --data_dir imagenet
"""


def page(times: dict[str, list[str]], machine: str) -> str:
    """The page; `times` has milliseconds for 1, 4 and 8 images by network."""
    sections = {name: section() for name, section in SECTIONS.items()}
    networks = " ".join(row.network for row in PADDLECLAS)
    return TEXT.format(
        ZHULF=ZHULF, paddleclas_speed=paddleclas_speed(times), machine=machine, networks=networks, **sections
    )


def measured() -> tuple[dict[str, list[str]], str]:
    """The times that are in the page now, and the machine."""
    text = PAGE.read_text(encoding="utf-8")
    by_name = dict(re.findall(r"^\| (\w+) \|(?: [\d.]+ / [\d.]+ / [\d.]+ \|){3} (.+) \|$", text, re.M))
    found = re.search(r"engine of this project,\s+([^:]+):", text)
    assert found is not None
    return {row.network: by_name[row.name].split(" / ") for row in PADDLECLAS}, found[1]


def main() -> None:
    parser = argparse.ArgumentParser(description="Write docs/published_tables.md.")
    parser.add_argument("--bench", type=Path, metavar="FILE", help="the result of `zoo bench ... --json FILE`")
    options = parser.parse_args()
    if options.bench:
        result = json.loads(options.bench.read_text(encoding="utf-8"))
        times: dict[str, list[str]] = {}
        for row in sorted(result["rows"], key=lambda row: row["batch"]):
            times.setdefault(row["model"], []).append(f"{row['p50_ms']:.1f}")
        machine = f"{result['processor']}, {result['threads']} threads"
    else:
        times, machine = measured()
    PAGE.write_text(page(times, machine), encoding="utf-8")


if __name__ == "__main__":
    main()
