"""What is known of sources: a domain's kind, or a rating of its quality, and how much that says about its reports.

Pure but for reading the tables. A source that no table names is unknown, which is not the same as bad.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from shared.errors import StartupFailed


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of source: how far its reports can be relied on (0 to 1), and how sure one can be of that (0 to 1)."""

    credibility: float
    confidence: float


# By what each kind answers for: editors and published corrections, peer review, law, or nobody.
KINDS: Mapping[str, Kind] = {
    "wire agency": Kind(0.92, 0.9),
    "science": Kind(0.92, 0.9),
    "public broadcaster": Kind(0.87, 0.85),
    "fact checker": Kind(0.9, 0.85),
    "newspaper": Kind(0.8, 0.75),
    "broadcaster": Kind(0.7, 0.65),
    "public body": Kind(0.78, 0.7),
    "magazine": Kind(0.7, 0.6),
    "online outlet": Kind(0.6, 0.5),
    "aggregator": Kind(0.5, 0.4),
    "user content": Kind(0.35, 0.5),
    "satire": Kind(0.02, 0.95),
}
# A rating by others of a whole domain says much, but not everything, about one report.
_RATED_CONFIDENCE = 0.85


class SourceTable:
    """Domains with what is known of them."""

    def __init__(self, rows: Mapping[str, Kind]) -> None:
        self._rows = dict(rows)

    def __len__(self) -> int:
        return len(self._rows)

    def find(self, source: str) -> Kind | None:
        """Return what is known of a source, of its parent domain if nothing is known of itself; None if nothing is."""
        host = source.lower().removeprefix("www.")
        while host:
            known = self._rows.get(host)
            if known is not None:
                return known
            host = host.partition(".")[2]
        return None


def load_sources(extra: Path | None = None) -> SourceTable:
    """Return the table of this service with the rows of `extra` on top; raises StartupFailed where one is unusable."""
    rows = _read(
        files("services.scoring").joinpath("sources.csv").read_text(encoding="utf-8").splitlines(), "sources.csv"
    )
    if extra is not None:
        try:
            rows |= _read(extra.read_text(encoding="utf-8").splitlines(), str(extra))
        except OSError as error:
            raise StartupFailed(f"the source table {extra} cannot be read: {error.strerror}") from error
    return SourceTable(rows)


def _read(lines: list[str], name: str) -> dict[str, Kind]:
    rows: dict[str, Kind] = {}
    reader = csv.DictReader(line for line in lines if not line.startswith("#"))
    columns = reader.fieldnames or ()
    if "domain" not in columns or not {"kind", "pc1"} & set(columns):
        raise StartupFailed(f"the source table {name} needs the columns `domain` and `kind` or `pc1`")
    for row in reader:
        domain, kind, rating = row["domain"].strip().lower(), row.get("kind") or "", row.get("pc1") or ""
        where = f"the source table {name}, line {reader.line_num}"
        if kind:
            if kind not in KINDS:
                raise StartupFailed(f"{where}: {kind!r} is no kind of source; there are {', '.join(KINDS)}")
            rows[domain] = KINDS[kind]
        elif rating:
            try:
                value = float(rating)
            except ValueError:
                value = -1.0
            if not 0.0 <= value <= 1.0:
                raise StartupFailed(f"{where}: {rating!r} is not a rating from 0 to 1")
            rows[domain] = Kind(value, _RATED_CONFIDENCE)
    return rows
