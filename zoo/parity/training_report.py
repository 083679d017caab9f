"""The results of `zoo parity --gradients` and `--steps` as rows, for the table, the page and the JUnit file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

KINDS = ("output", "input", "gradient", "statistic")


@dataclass(frozen=True)
class Row:
    """One backend's result for one model.

    verdict   "ok", "outside its band", "skipped" or "failed"
    figures   errors, one for each of `columns`; none where the backend was skipped or failed
    nearest   the place whose error is the largest share of its band, and that share
    problems  why the backend was skipped or failed, or what is outside its band
    """

    model: str
    backend: str
    version: str
    verdict: str
    figures: tuple[str, ...] = ()
    nearest: str = ""
    problems: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        return self.verdict not in ("ok", "skipped")


def is_training(document: Mapping[str, Any]) -> bool:
    """Whether a document of `zoo parity` is that of `--gradients` or `--steps`."""
    return "graph" in document


def columns(document: Mapping[str, Any]) -> tuple[str, ...]:
    """What the figures of a document's rows are."""
    return ("first loss", "last loss", "weights", "statistics") if "steps" in document else (*KINDS, "loss")


def rows(document: Mapping[str, Any]) -> Iterator[Row]:
    """The rows of a document of `zoo parity --gradients` or `--steps`."""
    for result in document["models"]:
        for backend, entry in result["backends"].items():
            if note := entry.get("skipped") or entry.get("error"):
                verdict = "skipped" if "skipped" in entry else "failed"
                yield Row(result["model"], backend, "", verdict, problems=(note,))
                continue
            verdict = "ok" if entry["ok"] else "outside its band"
            if "steps" in document:
                figures, nearest = _steps(document["steps"], result["bands"], entry)
                problems = _outside(entry["outside"])
            else:
                figures, nearest = _gradients(entry)
                problems = _outside_operations(entry)
            texts = tuple("not finite" if error is None else f"{error:.1e}" for error in figures)
            yield Row(result["model"], backend, entry["version"], verdict, texts, nearest, tuple(problems))


def explanation(document: Mapping[str, Any]) -> list[str]:
    """What was compared, and how errors are measured: sentences below the table."""
    first = document["models"][0]
    batch, width, judge = first["shape"][0], document["width"], first["judge"]
    tolerance = document["tolerance"]
    limit = "each must be within what rounding explains" if tolerance is None else f"tolerance {tolerance:g}"
    if "steps" in document:
        return [
            f"{document['steps']} training steps, batch {batch}, width {width:g}, momentum, from the same weights, "
            f"with the same dropout masks, against PyTorch {judge} in float64.",
            "Error of a loss: |y - reference| / |reference|; of a stage's weights and running statistics after the "
            f"last step, of which the largest is shown: |y - reference| / |reference - start| (Frobenius); {limit}.",
        ]
    return [
        f"Each stage and head in training, batch {batch}, width {width:g}, with the same input and the same gradient "
        "of its output: its output, the gradient at its input, all parameters' gradients and batch norm's new running "
        f"statistics, against PyTorch {judge} in float64; and the loss of the whole network in a first step.",
        f"Error: |value - reference| / |reference| (Frobenius); {limit}.",
    ]


def _gradients(entry: Mapping[str, Any]) -> tuple[list[float | None], str]:
    worst = entry["worst"]
    figures = [*(worst[kind]["error"] if kind in worst else 0.0 for kind in KINDS), entry["loss_error"]]
    nearest = max(worst.values(), key=lambda at: _share(at["error"], at["band"]))
    return figures, f"{nearest['where']} ({100 * _share(nearest['error'], nearest['band']):.0f}%)"


def _steps(steps: int, bands: Mapping[str, float], entry: Mapping[str, Any]) -> tuple[list[float | None], str]:
    errors = entry["errors"]
    shares = {place: _share(error, bands[place]) for place, error in errors.items()}
    largest = [
        max((e for place, e in errors.items() if place.startswith(what)), key=_size, default=0.0)
        for what in ("weights", "statistics")
    ]
    at = max(shares, key=shares.__getitem__)
    return [errors["loss 1"], errors[f"loss {steps}"], *largest], f"{at} ({100 * shares[at]:.0f}%)"


def _outside(places: list[str]) -> Iterator[str]:
    if places:
        yield f"outside: {', '.join(places)}"


def _outside_operations(entry: Mapping[str, Any]) -> Iterator[str]:
    """Which stages are outside their bands, and which of their operations, run alone, are outside theirs."""
    if entry["outside"]:
        found = entry["operations"]
        inside = ", ".join(found["outside"]) or f"none of their {found['compared']} operations by itself"
        yield f"outside: {', '.join(entry['outside'])}; of their operations: {inside}"
    error = entry["loss_error"]
    if not _size(error) <= entry["loss_band"]:
        said = "not finite" if error is None else f"{error:.1e}"
        yield f"outside: the loss of the first step, {said}; band {entry['loss_band']:.1e}"


def _size(error: float | None) -> float:
    return float("inf") if error is None else error


def _share(error: float | None, band: float) -> float:
    """An error divided by its band, which is 0 with `--tolerance 0`."""
    return _size(error) / band if band else float("inf") if _size(error) else 0.0
