"""What the command line shows: tables on standard output, progress on standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from backends import REQUIREMENTS

Cells = list[str]
OURS = {"zoo": "canonical weights", **{name: f"zoo.build's network, saved by {name}" for name in REQUIREMENTS}}
"""Sources that are no publishers."""


def models(rows: list[dict[str, Any]]) -> None:
    """`zoo list`."""
    table = new("model", ">size", ">parameters", ">GMACs", "published by", "same network as")
    for row in rows:
        table.add_row(
            row["model"],
            str(row["size"]),
            f"{row['parameters']:,}",
            f"{row['macs'] / 1e9:.3f}",
            ", ".join(row["publishers"]) or "the paper",
            ", ".join(row["same_network_as"]),
        )
    show(table)


def diff(document: dict[str, Any]) -> None:
    """`zoo diff`."""
    first, second = document["models"]
    groups: dict[tuple[str, str, str], list[str]] = {}
    for row in document["differences"]:
        groups.setdefault((row["what"], row["first"], row["second"]), []).append(row["where"])
    if groups:
        table = new("what", first, second, "where", wrap=True)
        for (what, ours, theirs), places in groups.items():
            where = places[0] if len(places) == 1 else f"{len(places)} places: {', '.join(places[:3])}"
            table.add_row(what, ours, theirs, where + (", ..." if len(places) > 3 else ""))
        show(table)
    same = "the same network in inference" if document["same_network"] else "different networks"
    for name, asked in zip(document["models"], document["asked_for"], strict=True):
        if name != asked:
            print(f"{asked} is {name}.")
    print(f"{first} and {second} are {same}.")
    if not document["weights_fit"]:
        print("The weights of one do not fit the other: names or shapes of tensors differ.")
    elif document["logits_part"] is not None:
        part = document["logits_part"]
        print(f"With the same weights, their logits on two photographs part by {part:.1e} of the largest.")


def model(figures: dict[str, Any]) -> None:
    """`zoo info`."""
    lines = {
        "paper": figures["paper"],
        "published by": ", ".join(figures["publishers"]) or "nobody here; from the paper",
        "same network as": ", ".join(figures["same_network_as"]) or "no other",
        "aliases": ", ".join(figures["aliases"]) or "none",
        "input": f"{figures['in_channels']} x {figures['size']} x {figures['size']} "
        f"(at least {figures['least_size']}, natively {figures['preprocess']['size']})",
        "parameters": f"{figures['parameters']:,}"
        + (f" ({figures['parameters_with_aux']:,} with auxiliary heads)" if figures["aux"] else ""),
        "buffers": f"{figures['buffers']:,}",
        "MACs": f"{figures['macs']:,} ({figures['macs'] / 1e9:.3f} G)",
        "activations": f"{figures['activations']:,}",
        "layers": f"{figures['layers']} convolutions and linear layers",
        "batch norm": f"eps {figures['norm']['eps']:g}, decay {figures['norm']['decay']:g}"
        if figures["norm"]
        else "none",
        "auxiliary heads": ", ".join(f"{name} after {after}" for name, after in figures["aux"].items()) or "none",
    }
    table = new("stage", ">output", ">reduction", ">receptive field", ">parameters", ">MMACs")
    for stage in figures["stages"]:
        table.add_row(
            stage["name"],
            f"{stage['channels']} x {stage['height']} x {stage['width']}",
            str(stage["reduction"]),
            str(stage["receptive_field"]),
            f"{stage['parameters']:,}",
            f"{stage['macs'] / 1e6:,.1f}",
        )
    print(figures["model"])
    for name, value in lines.items():
        print(f"  {name:15}  {value}")
    show(table)


def parity(report: dict[str, Any]) -> None:
    """`zoo parity`."""
    columns = (
        "model",
        "backend",
        ">parameters",
        ">GMACs",
        ">error",
        "top-1",
        "top-5",
        ">build s",
        ">load s",
        ">run s",
        ">peak GB",
        "",
    )
    table = new(*columns)
    notes = []
    for result in report["models"]:
        first = [result["model"], f"{result['parameters']:,}", f"{result['macs'] / 1e9:.3f}"]
        for name, entry in {"reference": result["reference"], **result["backends"]}.items():
            cells, note = _entry(name, entry)
            table.add_row(first[0], cells[0], *first[1:], *cells[1:])
            first = ["", "", ""]
            if note:
                notes.append(f"{result['model']}, {name}: {note}")
        table.add_section()
    show(table)
    _print_layers(report)
    for text in (*notes, *_facts(report)):
        print(text)
    if not any("ok" in entry for result in report["models"] for entry in result["backends"].values()):
        print("No framework was compared: nothing is proved.")


def gradients(report: dict[str, Any]) -> None:
    """`zoo parity --gradients`."""
    kinds = ("output", "input", "gradient", "statistic")
    table = new("model", "backend", *(f">{kind}" for kind in kinds), ">loss", "", "largest at")
    notes = []
    for result in report["models"]:
        name = result["model"]
        for backend, entry in result["backends"].items():
            note = entry.get("skipped") or entry.get("error")
            if note:
                table.add_row(name, backend, *[""] * 5, "skipped" if "skipped" in entry else "[bold red]failed[/]", "")
                notes.append(f"{backend}: {note}")
            else:
                worst = entry["worst"]
                errors = [*(worst[kind]["error"] if kind in worst else 0.0 for kind in kinds), entry["loss_error"]]
                largest = max(worst.values(), key=lambda at: float("inf") if at["error"] is None else at["error"])
                verdict = "[green]ok[/]" if entry["ok"] else "[bold red]out of tolerance[/]"
                cells = ("not finite" if error is None else f"{error:.1e}" for error in errors)
                table.add_row(name, f"{backend} {entry['version']}", *cells, verdict, largest["where"])
            name = ""
    show(table)
    for note in dict.fromkeys(notes):
        print(note)
    first = report["models"][0]
    print(
        f"Each stage and head in training, batch {first['shape'][0]}, width {report['width']:g}: its output, the "
        "gradient at its input, all parameters' gradients,\nbatch norm's new running statistics, for the same input "
        f"and the same gradient of its output, against PyTorch {first['judge']} in float64;\n"
        "and the loss of the whole network in a first step."
    )
    print(f"Error: |value - reference| / |reference| (Frobenius), the largest; tolerance {report['tolerance']:g}.")


def study(results: list[dict[str, Any]]) -> None:
    """`validate.py --study`: a row for each network that one file was judged as."""
    rows = new("checkpoint", ">eps", "padding counted", ">top-1", ">top-5", ">loss")
    name = ""
    for result in results:
        counts = (result["top1_correct"], result["top5_correct"])
        shares = (
            f"{k} of {result['images']} ({100 * k / result['images']:.2f}%)" if k is not None else "" for k in counts
        )
        shown = result["checkpoint"] if result["checkpoint"] != name else ""
        name = result["checkpoint"]
        rows.add_row(
            shown,
            f"{result['eps']:g}",
            "yes" if result["count_include_pad"] else "no",
            *shares,
            f"{result['summary']['loss']:.4f}",
        )
    show(rows)


def checkpoint(document: dict[str, Any]) -> None:
    """`zoo inspect`."""
    known = ("source", "licence") if document["preprocess_known"] else document["metadata"]
    metadata = {key: value for key, value in document["metadata"].items() if key in known and value}
    one = document["model"] or "cannot be told from the names alone: give --model"
    preprocess = document["preprocess"]
    means = " ".join(f"{value:g}" for value in preprocess["mean"])
    spreads = " ".join(f"{value:g}" for value in preprocess["std"])
    feed = (
        f"shorter side to {preprocess['resize']}, {preprocess['interpolation']}; middle {preprocess['size']} x "
        f"{preprocess['size']}; {preprocess['channels']}, mean {means}, std {spreads}"
    )
    lines = {
        "format": document["format"],
        "source": _sources(document),
        "model": one,
        "classes": str(document["num_classes"])
        + (" (the first is background: --num-classes 1000)" if document["num_classes"] == 1001 else ""),
        "input channels": str(document["in_channels"]),
        "width": f"{document['width']:g}",
        "auxiliary heads": ", ".join(document["aux"]) or "none",
        "tensors": f"{document['tensors']}, {document['elements']:,} elements, "
        + ", ".join(f"{count} {dtype}" for dtype, count in document["dtypes"].items()),
        "preprocessing": feed
        if document["preprocess_known"]
        else f"not in the file; {document['preprocess_of']}'s: {feed}",
        "taken off": "; ".join(document["removed"]) or "nothing",
        "metadata": ", ".join(f"{key}={value}" for key, value in metadata.items()) or "none",
    }
    print(document["file"])
    for name, value in lines.items():
        print(f"  {name:15}  {value}")
    if document["possible"] and document["model"] is None:
        print("Its names fit these networks:")
        first = document["possible"][0]["model"]
        for possible in document["possible"]:
            texts = list(dict.fromkeys(f"{d['what']} {d['second']}, not {d['first']}" for d in possible["differs_in"]))
            print(f"  {possible['model']:30}  {f'unlike {first}: ' + '; '.join(texts[:3]) if texts else ''}".rstrip())


def _sources(document: dict[str, Any]) -> str:
    return " or ".join(OURS.get(source, source) for source in document["sources"])


def conversion(document: dict[str, Any]) -> None:
    """`zoo convert`."""
    own = document["converted_from"] or document["model"]
    print(f"{document['file']}: {own}, {document['format']}, of {_sources(document)}")
    for line in document["removed"]:
        print(f"  taken off: {line}")
    for line in document["operations"]:
        print(f"  {line}")
    print(f"{document['out']}: as {OURS.get(document['to'], document['to'] + ' has it')}")


@contextmanager
def progress(total: int) -> Iterator[Callable[[str, str], None]]:
    """A live bar on a terminal, a line a step in a log; yields what to call with a model and the step it begins."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda model, step: print(f"{model}: {step}", file=console.file, flush=True)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        bar = bars.add_task("", total=total)
        begun = 0

        def show(model: str, step: str) -> None:
            nonlocal begun
            bars.update(bar, completed=begun, description=f"{model}: {step}")
            begun += 1

        yield show


def _entry(name: str, entry: dict[str, Any]) -> tuple[Cells, str]:
    """The cells of a row after the model's, and a note to go below the table."""
    if "skipped" in entry:
        return [name, *[""] * 7, "skipped"], entry["skipped"]
    if "error" in entry:
        return [name, *[""] * 7, "[bold red]failed[/]"], entry["error"]
    seconds = [f"{entry['seconds'][step]:.1f}" if "seconds" in entry else "" for step in ("build", "load", "run")]
    seconds.append(f"{entry['memory'] / 1e9:.1f}" if entry.get("memory") else "")
    if name == "reference":
        return [f"{name} (float64)", "", "", "", *seconds, "stored" if "stored" in entry else ""], ""
    error = "not finite" if entry["max_rel_error"] is None else f"{entry['max_rel_error']:.1e}"
    agrees = ["same" if entry[key] else "[bold red]differs[/]" for key in ("top1_agrees", "top5_agrees")]
    verdict = "[green]ok[/]" if entry["ok"] else "[bold red]out of tolerance[/]"
    return [f"{name} {entry['version']}", error, *agrees, *seconds, verdict], ""


def _print_layers(report: dict[str, Any]) -> None:
    for result in report["models"]:
        entries = {name: entry["layers"] for name, entry in result["backends"].items() if "layers" in entry}
        if not entries:
            continue
        table = new(f"{result['model']}: error of", *(f">{name}" for name in entries))
        for layer in next(iter(entries.values())):
            errors = (layers[layer] for layers in entries.values())
            table.add_row(layer, *("not finite" if error is None else f"{error:.1e}" for error in errors))
        show(table)


def _facts(report: dict[str, Any]) -> Iterator[str]:
    """What one must know to read the table."""
    first = report["models"][0]
    images = first["input"]["images"]
    what = images if isinstance(images, str) else ", ".join(images)
    yield f"Inputs: {what}, preprocessed as each model's publisher does; device: {report['device']}."
    if first["weights"].startswith("random"):
        yield (
            f"Weights: {first['weights']} (batch-norm statistics measured so that activations stay alive); "
            "no trained weights ship with the project."
        )
    else:
        yield f"Weights: {first['weights']}."
    yield f"Error: max |logits - reference| / max |reference|; tolerance {report['tolerance']:g}."


def new(*columns: str, wrap: bool = False) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(
            column.lstrip(">"), justify="right" if column.startswith(">") else "left", no_wrap=not wrap, overflow="fold"
        )
    return table


def show(table: Table) -> None:
    """Figures are never cut: a table is as wide as they need; where it may wrap, it does."""
    console = Console()
    if all(column.no_wrap for column in table.columns):
        wide = console.options.update(max_width=1000)
        console.width = max(console.width, console.measure(table, options=wide).maximum)
    else:
        console.width = max(console.width, 100)
    console.print(table)
