"""Settings of the scoring service, on top of what every service has."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from services.scoring.score import Rules
from shared.settings import ServiceSettings


class ScoringSettings(ServiceSettings):
    """What the scorer knows of sources and when it speaks."""

    port: int = Field(8004, ge=0, le=65_535, description="HTTP port; 0 picks a free one")
    sources_file: Path | None = Field(
        None, description="CSV with `domain` and `kind` or `pc1` (0 to 1), on top of the sources this service knows"
    )
    score_min_change: float = Field(2.0, gt=0, description="points a score moves before it is told again")

    @property
    def rules(self) -> Rules:
        """When a score is worth telling."""
        return Rules(min_change=self.score_min_change)
