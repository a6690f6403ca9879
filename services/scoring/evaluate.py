"""`veracity evaluate trust`: how well scores agree with labels nobody here made; it also fits the headline model.

Labels: headlines called clickbait or not; domains in the upper or lower third of a quality rating (pc1, Lin et al.
2023) or listed as unreliable (opensources). Rows are split by a hash of their text: the same 30 % are always held out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, roc_auc_score

from services.scoring import headline
from services.scoring.evidence import Evidence
from services.scoring.score import assess
from services.scoring.sources import SourceTable, load_sources
from shared.events import ItemRef
from shared.tables import read_table

_HELD_OUT = 0.3
_UNRELIABLE = frozenset(("fake", "conspiracy", "junksci", "unreliable", "clickbait", "rumor"))


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the table: what was judged, on how many rows, and how well (AUC 0.5 is chance, Brier 0 is best)."""

    name: str
    rows: int
    auc: float
    brier: float
    curve: tuple[tuple[float, ...], tuple[float, ...]]  # predicted, observed
    note: str = ""


def held_out(text: str) -> bool:
    """Tell whether a row belongs to the held-out part."""
    return hashlib.blake2b(text.encode(), digest_size=1).digest()[0] < 256 * _HELD_OUT


def fit_headlines(rows: Sequence[tuple[str, bool]]) -> headline.Model:
    """Return the model fitted on the rows that are not held out."""
    training = [(title, label) for title, label in rows if not held_out(title)]
    values = np.array([list(headline.marks(title).values()) for title, _ in training])
    labels = np.array([label for _, label in training])
    fitted = LogisticRegression(max_iter=2_000).fit(values, labels)
    weights = dict(zip(headline.MARKS, (round(float(weight), 3) for weight in fitted.coef_[0]), strict=True))
    typical = dict(zip(headline.MARKS, (round(float(mean), 3) for mean in values.mean(axis=0)), strict=True))
    version = f"headline-{hashlib.blake2b(json.dumps(weights).encode(), digest_size=4).hexdigest()}"
    return headline.Model(version, round(float(fitted.intercept_[0]), 3), weights, typical)


def write_model(model: headline.Model, path: Path) -> None:
    """Write a fitted model where the service reads it from."""
    document = {
        "version": model.version,
        "bias": model.bias,
        "weights": dict(model.weights),
        "typical": dict(model.typical),
    }
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def judge_headlines(rows: Iterable[tuple[str, bool]], model: headline.Model) -> Result:
    """Judge the held-out headlines."""
    held = [(title, label) for title, label in rows if held_out(title)]
    predicted = [headline.judge(title, model).sells for title, _ in held]
    return _result("headlines: clickbait or not, held out", predicted, [label for _, label in held])


def judge_domains(name: str, rows: Iterable[tuple[str, bool]], table: SourceTable) -> Result | None:
    """Judge domains by the table alone; None where it knows too few of them to say."""
    rows = list(rows)
    known = [(kind.credibility, label) for domain, label in rows if (kind := table.find(domain)) is not None]
    labels = [label for _, label in known]
    if len(set(labels)) < 2:
        return None
    note = f"the table knows {len(known)} of {len(rows)}; the others are unknown, with confidence 0"
    return _result(name, [value for value, _ in known], labels, note)


def judge_reports(name: str, rows: Sequence[tuple[str, str, bool]], table: SourceTable) -> Result:
    """Judge single reports (title, domain, credible) by the whole score with `table`; an empty one hides the name."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    predicted = []
    for number, (title, domain, _) in enumerate(rows):
        item = ItemRef(id=f"i{number}", platform="news", source=domain, title=title[:300], published_at=now)
        evidence = Evidence(f"s{number}", [item], [domain], {"news": 1}, 1, now, now, simulated=False)
        predicted.append(assess(evidence, table, now).score / 100.0)
    return _result(name, predicted, [label for _, _, label in rows])


def read_headlines(path: Path) -> list[tuple[str, bool]]:
    """Read `headline,clickbait`."""
    return [(row["headline"], row["clickbait"] == "1") for row in read_table(path, "headline", "clickbait")]


def read_thirds(path: Path) -> dict[str, bool]:
    """Read `domain,pc1`; return the upper third as credible and the lower as not."""
    ratings = {row["domain"]: float(row["pc1"]) for row in read_table(path, "domain", "pc1")}
    lower, upper = np.quantile(list(ratings.values()), (1 / 3, 2 / 3))
    return {domain: rating >= upper for domain, rating in ratings.items() if rating >= upper or rating <= lower}


def read_unreliable(path: Path) -> set[str]:
    """Read `domain,type`; return those whose first type says that what they report is not reliable."""
    return {row["domain"] for row in read_table(path, "domain", "type") if row["type"] in _UNRELIABLE}


def read_reports(path: Path, credible: dict[str, bool]) -> list[tuple[str, str, bool]]:
    """Read `title,domain`; return the reports of domains that have a label."""
    rows = read_table(path, "title", "domain")
    return [(row["title"], row["domain"], credible[row["domain"]]) for row in rows if row["domain"] in credible]


def _result(name: str, predicted: Sequence[float], labels: Sequence[bool], note: str = "") -> Result:
    observed, expected = calibration_curve(labels, predicted, n_bins=10)
    return Result(
        name,
        len(labels),
        float(roc_auc_score(labels, predicted)),
        float(brier_score_loss(labels, predicted)),
        (tuple(map(float, expected)), tuple(map(float, observed))),
        note,
    )


def evaluate(data: Path, *, fit: bool = False) -> list[Result]:
    """Evaluate on the folders `clickbait`, `domain_quality`, `opensources` and `reddit_news_2013` of `data`.

    With `fit`, the headline model is fitted first and written where the service reads it from.
    """
    headlines = read_headlines(data / "clickbait" / "headlines.csv")
    if fit:
        write_model(fit_headlines(headlines), Path(headline.__file__).with_name("headline.json"))
        headline.fitted.cache_clear()
    thirds = read_thirds(data / "domain_quality" / "domain_quality.csv")
    unreliable = read_unreliable(data / "opensources" / "sources.csv")
    reports = read_reports(data / "reddit_news_2013" / "posts.csv", thirds)
    table, nobody = load_sources(), SourceTable({})
    listed = dict.fromkeys(unreliable, False) | {domain: True for domain, good in thirds.items() if good}
    results: list[Result | None] = [
        judge_headlines(headlines, headline.fitted()),
        judge_domains("domains: upper or lower third of pc1", thirds.items(), table),
        judge_domains("domains: listed as unreliable, or upper third", listed.items(), table),
        judge_reports("reports: the score with the source's name", reports, table),
        judge_reports("reports: the score without it", reports, nobody),
    ]
    return [result for result in results if result is not None]


def draw(results: Sequence[Result], path: Path) -> None:
    """Draw the calibration of each result: predicted against observed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 6))
    axes.plot((0, 1), (0, 1), color="0.7", linestyle=":", label="perfect")
    for result in results:
        axes.plot(*result.curve, marker="o", label=f"{result.name} (AUC {result.auc:.2f})")
    axes.set(xlabel="predicted", ylabel="observed", title="Calibration of trust")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120, bbox_inches="tight")
    pyplot.close(figure)


def table(results: Sequence[Result]) -> str:
    """Return the results as a Markdown table."""
    lines = ["| judged | rows | AUC | Brier |", "| --- | --- | --- | --- |"]
    lines += [f"| {one.name} | {one.rows} | {one.auc:.3f} | {one.brier:.3f} |" for one in results]
    lines += [f"\n{one.name}: {one.note}" for one in results if one.note]
    return "\n".join(lines)
