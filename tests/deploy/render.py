"""Renders the chart: for the tests, and into deploy/k8s for those who use no Helm (`make manifests`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import helm_python
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "veracity"
PLAIN = ROOT / "deploy" / "k8s"
SIZES = ("small", "production")


def values(name: str) -> dict[str, Any]:
    """Return one of the chart's example values."""
    loaded: dict[str, Any] = yaml.safe_load((CHART / "ci" / f"{name}.yaml").read_text())
    return loaded


def manifests(chosen: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return the objects of each template, rendered for the release `live` in the namespace `veracity`."""
    rendered = helm_python.Chart.load(str(CHART)).render(chosen, name="live", namespace="veracity")
    return {
        path: [document for document in yaml.safe_load_all(text) if document]
        for path, text in sorted(rendered.items())
        if path.endswith(".yaml")
    }


def plain(name: str) -> str:
    """Return everything of one size as one file, without what only Helm runs."""
    objects = [
        document
        for path, documents in manifests(values(name)).items()
        if "/tests/" not in path
        for document in documents
    ]
    return "".join(f"---\n{yaml.safe_dump(document, sort_keys=False, width=120)}" for document in objects)


def main() -> None:
    """Write deploy/k8s."""
    PLAIN.mkdir(exist_ok=True)
    for name in SIZES:
        (PLAIN / f"{name}.yaml").write_text(plain(name))


if __name__ == "__main__":
    main()
