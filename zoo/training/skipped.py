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
"""How many are named as they are met; all are in the file."""

logger = logging.getLogger("zoo")


class BadImages:
    """Collects them from all processes, and keeps the file; it appears with the first one.

    goes_on  whether a run goes on, whose earlier ones stay in the file
    """

    def __init__(self, path: str | Path, processes: Processes, goes_on: bool = False) -> None:
        self.path, self.processes = Path(path), processes
        self.found: dict[tuple[str, str], str] = {}
        if goes_on and self.path.exists():
            with self.path.open(newline="", encoding="utf-8") as file:
                rows = list(csv.reader(file))[1:]
            self.found = {(row[0], row[1]): row[2] for row in rows if len(row) == len(COLUMNS)}

    def __len__(self) -> int:
        return len(self.found)

    def add(self, data: Dataset, bad: Mapping[int, str]) -> None:
        """Add those of a dataset that this process has met, and all others; every process must come here."""
        mine = {data.path(index): reason for index, reason in dict(bad).items()}
        found: dict[tuple[str, str], str] = {}
        for theirs in self.processes.gather(json.dumps(mine).encode()):
            found |= {(data.split, image): reason for image, reason in json.loads(theirs).items()}
        new = found.keys() - self.found.keys()
        if not new:
            return
        for split, image in sorted(new)[: max(0, SHOWN - len(self.found))]:
            logger.warning("left out: %s", found[split, image])
        if len(self.found) < SHOWN <= len(self.found) + len(new):
            logger.warning("further ones are in %s only", self.path)
        self.found |= found
        if self.processes.rank == 0:
            try:
                write_csv(self.path, COLUMNS, ((*key, reason) for key, reason in sorted(self.found.items())))
            except InputError as error:  # worth no run
                logger.warning("%s", error)
