"""bad_images.csv: the images of a run that could not be read, and why."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Mapping
from pathlib import Path

from zoo.data import Dataset
from zoo.errors import InputError
from zoo.files import write_csv
from zoo.training.processes import Processes

COLUMNS = ("split", "image", "reason")
SHOWN = 5
"""The number of images that are named on the logger; all are in the file."""

logger = logging.getLogger("zoo")


class SkippedImages:
    """Collects the images that all processes have skipped, and writes them to a file as soon as there is one.

    resumed  whether the run has been resumed, so that the images in the file remain there
    """

    def __init__(self, path: str | Path, processes: Processes, resumed: bool = False) -> None:
        self.path, self.processes = Path(path), processes
        self.found: dict[tuple[str, str], str] = {}
        if resumed and self.path.exists():
            with self.path.open(newline="", encoding="utf-8") as file:
                rows = list(csv.reader(file))[1:]
            self.found = {(row[0], row[1]): row[2] for row in rows if len(row) == len(COLUMNS)}

    def __len__(self) -> int:
        return len(self.found)

    def add(self, data: Dataset, skipped: Mapping[int, str]) -> None:
        """Add the images of a dataset, by index, that each process has skipped. All processes must call this."""
        mine = {data.path(index): reason for index, reason in dict(skipped).items()}
        found: dict[tuple[str, str], str] = {}
        for theirs in self.processes.gather(json.dumps(mine).encode()):
            found |= {(data.split, image): reason for image, reason in json.loads(theirs).items()}
        new = found.keys() - self.found.keys()
        if not new:
            return
        for split, image in sorted(new)[: max(0, SHOWN - len(self.found))]:
            logger.warning("skipped: %s", found[split, image])
        if len(self.found) < SHOWN <= len(self.found) + len(new):
            logger.warning("more skipped images are listed in %s", self.path)
        self.found |= found
        if self.processes.rank == 0:
            try:
                write_csv(self.path, COLUMNS, ((*key, reason) for key, reason in sorted(self.found.items())))
            except InputError as error:  # not worth ending the run
                logger.warning("%s", error)
