"""Words of a headline: what trends count and stories are compared by.

Pure. Words are lower case without possessives; a name is a run of capitalised words in a headline that is not in title
case throughout.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from wordfreq import zipf_frequency

from shared.events import TermKind

_WORD = re.compile(r"[^\W_]+(?:['’.&-][^\W_]+)*")
_HASHTAG = re.compile(r"(?<![\w&])#(\w{2,60})")
_POSSESSIVE = re.compile(r"['’]s?$")

# Words that carry no topic: English function words, and what every newsroom writes whatever the news is.
STOPWORDS = frozenset(
    """
    a about above after again against ago all almost along already also although always am among an and another any
    are aren't around as at away back be became because become been before behind being below best better between
    both but by came can can't come comes could couldn't day days did didn't do does doesn't doing don't done down
    during each either else ever every few first for from get gets getting give gives go goes going gone good got
    had hasn't has have haven't having he he's her here here's hers herself him himself his how however i i'd i'll
    i'm i've if in into is isn't it it's its itself just keep know last later least left less let let's like likely
    little long look looks made make makes making man many may maybe me men might more most much must my myself near
    never new next no nor not nothing now of off often old on once one only onto or other others our out over own
    part people per put really right said same saw say says see seen set she she's should shouldn't show shows since
    so some something soon still such take takes than that that's the their them then there there's these they
    they're thing things think this those though three through thus time to today told tomorrow too took top toward
    tuesday two under until up upon us use used very via want wants was wasn't way we we're week weeks well went
    were weren't what what's when where whether which while who who's whom whose why will with within without won't
    work would wouldn't year years yes yesterday yet you you'll you're your yours monday wednesday thursday friday
    saturday sunday january february march april june july august september october november december jan feb mar
    apr jun jul aug sept sep oct nov dec news report reports reported update updates updated live latest breaking
    video videos watch photo photos gallery story stories exclusive opinion analysis review interview podcast
    newsletter briefing read full article html index amp http https www com
    """.split()
)


@dataclass(frozen=True, slots=True)
class Term:
    """Something that can trend: how it is counted, how it is shown, what kind it is."""

    key: str
    name: str
    kind: TermKind


# A word as common as "house" or "black" tells nothing alone, whatever the news; a pair with it does.
_TELLING = 2.3


def words(text: str) -> list[str]:
    """Return the words of `text` in order, lower case, possessives cut; digits count as words."""
    return [_POSSESSIVE.sub("", word.lower()) for word in _WORD.findall(text)]


def content_words(text: str) -> list[str]:
    """Return the words of `text` that carry topic: no function words, nothing of one letter."""
    return [word for word in words(text) if len(word) > 1 and word not in STOPWORDS]


def stem(word: str) -> str:
    """Return `word` without the endings of plural and tense, a light form of the Porter stemmer's first step.

    M. F. Porter, An algorithm for suffix stripping, Program 14(3), 1980. Rough on purpose: it only has to map the forms
    headlines use of one word onto one key.
    """
    if len(word) <= 4 or not word.isalpha():
        return word
    for ending, replacement in (("sses", "ss"), ("ies", "y"), ("ing", ""), ("ed", ""), ("s", "")):
        if not word.endswith(ending) or (ending == "s" and word[-2] in "su"):
            continue
        root = word[: len(word) - len(ending)] + replacement
        if len(root) < 3:
            return word
        # "stopped" and "stopping" are "stop"; "telling" is "tell".
        if ending in ("ing", "ed") and root[-1] == root[-2] and root[-1] not in "lsz":
            root = root[:-1]
        return root
    return word


@lru_cache(maxsize=65_536)
def rarity(word: str) -> float:
    """Return how rare a word is in English: powers of ten below the commonest, 0 to 5; unknown words are the rarest.

    From the frequencies of `wordfreq` (R. Speer, https://doi.org/10.5281/zenodo.7199437), whose Zipf scale ends at 7.5.
    """
    return 7.5 - max(2.5, float(zipf_frequency(word, "en", wordlist="small")))


def hashtags(text: str) -> list[str]:
    """Return the hashtags in `text`, lower case, without `#`, each once."""
    return list(dict.fromkeys(tag.lower() for tag in _HASHTAG.findall(text)))


def title_case(title: str) -> bool:
    """Tell whether a headline writes nearly every longer word with a capital, so that capitals mark no names."""
    longer = [word for word in _WORD.findall(title) if len(word) > 3 and word.lower() not in STOPWORDS]
    return len(longer) >= 3 and sum(word[0].isupper() for word in longer) > 0.85 * len(longer)


def names(title: str) -> list[str]:
    """Return runs of capitalised words inside a headline, such as people and places; none where all are capitalised."""
    if title_case(title):
        return []
    found: list[str] = []
    for run in _capital_runs(title):
        while run and run[0].lower() in STOPWORDS:
            run = run[1:]
        if run and any(len(word) > 2 for word in run):
            found.append(" ".join(_POSSESSIVE.sub("", word) for word in run[:5]))
    return list(dict.fromkeys(found))


def _capital_runs(title: str) -> Iterator[list[str]]:
    """Yield capitalised words that follow one another with only a space between, without a sentence's first word."""
    run: list[str] = []
    end, sentence_start = -1, True
    for match in _WORD.finditer(title):
        word, gap = match.group(), title[end : match.start()] if end >= 0 else ""
        if run and gap != " ":
            yield run
            run = []
        sentence_start = end < 0 or any(mark in gap for mark in ".!?:|")
        if word[0].isupper() and not (sentence_start and word.lower() in STOPWORDS):
            run.append(word)
        elif run:
            yield run
            run = []
        end = match.end()
    if run:
        yield run


def terms(title: str, tags: Sequence[str] = ()) -> list[Term]:
    """Return what a headline mentions that could trend: hashtags, names, words and pairs of neighbouring words."""
    found: dict[str, Term] = {}
    for tag in tags:
        found[f"#{tag}"] = Term(f"#{tag}", f"#{tag}", TermKind.HASHTAG)
    for name in names(title):
        key = name.lower()
        if key not in STOPWORDS and len(key) > 2:
            found.setdefault(key, Term(key, name, TermKind.ENTITY))
    plain = words(title)
    for at, word in enumerate(plain):
        if not _topical(word):
            continue
        if rarity(word) >= _TELLING:
            found.setdefault(word, Term(word, word, TermKind.KEYWORD))
        if at + 1 < len(plain) and _topical(plain[at + 1]):
            pair = f"{word} {plain[at + 1]}"
            found.setdefault(pair, Term(pair, pair, TermKind.KEYWORD))
    return list(found.values())


def _topical(word: str) -> bool:
    return len(word) > 2 and word not in STOPWORDS and not word.isdigit()
