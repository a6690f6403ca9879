"""How a headline is written: marks that sell rather than tell, and the fitted weight of each. Pure but for one file.

A logistic regression over marks anybody can see; no word says what a text is about, whom or which side.
`veracity evaluate trust --fit` fits it anew.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


def _share(pattern: str) -> Callable[[str, list[str]], float]:
    expression = re.compile(pattern, re.IGNORECASE)
    return lambda title, words: sum(bool(expression.fullmatch(word)) for word in words) / max(1, len(words))


def _has(pattern: str, flags: re.RegexFlag = re.IGNORECASE) -> Callable[[str, list[str]], float]:
    expression = re.compile(pattern, flags)
    return lambda title, words: 1.0 if expression.search(title) else 0.0


_FUNCTION = (
    r"a|an|the|and|or|but|if|that|this|these|those|is|are|was|were|be|been|has|have|had|do|does|did|to|of|in|on|at|by|"
    r"for|with|from|as|it|its|they|them|their|we|our|i|my|me|he|his|she|her|you|your|who|what|when|where|why|how|so|just|"
    r"not|no|can|will|would|should|could|all|more|most|ever|about|like|up|out|if|than|then|too|very|really"
)

# Each mark of a headline, 0 to 1; what it is called where a score is explained. Left out although they would fit well:
# capitals at every word, apostrophes and length, which tell a newsroom's house style and not how it treats its readers.
MARKS: Mapping[str, Callable[[str, list[str]], float]] = {
    "speaks to the reader": _share(r"you|your|yours|you'?re|you'?ll|you'?ve"),
    "says I or we": _share(r"i|i'm|i'll|i've|my|me|we|our|us|we're"),
    "begins with a number": _has(r"^\W*\d{1,3}\s+\S+"),
    "begins with a question word": _has(r"^\W*(how|why|what|which|who|when|can|are|is|do|does|should|would)\b"),
    "points without naming": _share(r"this|these|that|here|here's|it|things?|someone|everyone|everything|something"),
    "teases": _has(
        r"won'?t believe|will (make|shock|blow|change)|what happen(s|ed)|reasons?\b|ways\b|things\b|times\b|facts\b|"
        r"here'?s (why|what|how)|the (real|only) reason|that will|need to know|secrets?\b"
    ),
    "superlatives": _share(
        r"best|worst|most|ever|perfect|amazing|awesome|incredible|insane|epic|shocking|unbelievable|hilarious|totally|"
        r"actually|literally|absolutely|really|very|definitely|adorable|beautiful|weird|crazy"
    ),
    "exclamation marks": _has(r"!"),
    "a question": _has(r"\?\s*$"),
    "words in capitals": lambda title, words: sum(len(w) > 4 and w.isupper() for w in words) / max(1, len(words)),
    "function words": _share(_FUNCTION),
    "attributes to somebody": _has(r"\b(says?|said|according to|report(s|ed)?|announces?|claims?|denies|warns?)\b"),
    "names a figure": _has(r"\S\s+\$?\d[\d,.]*(%|\b)"),
}


@dataclass(frozen=True, slots=True)
class Model:
    """Fitted weights: the logit that a headline sells is `bias` and the weighted sum of its marks."""

    version: str
    bias: float
    weights: Mapping[str, float]
    typical: Mapping[str, float]  # mean of each mark, against which a headline's own is explained


@cache
def fitted() -> Model:
    """Return the model this service was built with."""
    raw = json.loads(files("services.scoring").joinpath("headline.json").read_text(encoding="utf-8"))
    return Model(raw["version"], raw["bias"], raw["weights"], raw["typical"])


def marks(title: str) -> dict[str, float]:
    """Return every mark of a headline."""
    words = _WORD.findall(title)
    return {name: float(measure(title, words)) for name, measure in MARKS.items()}


@dataclass(frozen=True, slots=True)
class Judgement:
    """How likely it is that a headline sells rather than tells, and the marks that say so, most telling first."""

    sells: float
    because: tuple[str, ...]


def judge(title: str, model: Model) -> Judgement:
    """Return the judgement on one headline."""
    found = marks(title)
    logit = model.bias + sum(model.weights[name] * value for name, value in found.items())
    shifts = {name: model.weights[name] * (value - model.typical[name]) for name, value in found.items()}
    telling = sorted((name for name, shift in shifts.items() if shift > 0.4), key=lambda name: -shifts[name])
    return Judgement(1.0 / (1.0 + math.exp(-logit)), tuple(telling[:3]))
