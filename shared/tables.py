"""CSV tables for people's own data: read whole, with the columns a reader needs."""

from __future__ import annotations

import csv
from pathlib import Path

from shared.errors import StartupFailed


def read_table(path: Path, *columns: str) -> list[dict[str, str]]:
    """Return the rows; raises StartupFailed if the file cannot be read, is empty or lacks one of `columns`."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise StartupFailed(f"{path} cannot be read: {error.strerror}") from error
    if not rows or not set(columns) <= rows[0].keys():
        raise StartupFailed(f"{path} needs {'the columns ' + ', '.join(columns) if columns else 'rows'}")
    return rows
