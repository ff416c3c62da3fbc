"""Word lists: how many of a text's words are listed ones, from a file or from two short lists.

A file has one word or phrase a line, as LDNOOBW's lists of "dirty, naughty, obscene" words, one a
language, by which C4 drops a page that says any of them (Raffel et al. 2020, arXiv:1910.10683):
``{signal: scores.NAME, at_most: 0}``. Case does not matter; a word matches between borders of
words only, and in Chinese, Japanese and Thai, which have none, anywhere.

The built-in lists are English and short. ``adult`` holds what pornographic pages say of
themselves, ``toxic`` insults and threats. They find pages that are full of it, at a few listed
words in a hundred; they do not find hostility in polite words, and a single match says nothing:
medicine, law and fiction use these words, too. No names of groups of people are on them, since
such lists remove what these groups write about themselves (Dodge et al. 2021, arXiv:2104.08758).
Where it matters, train a classifier on labelled texts.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from datalake.config import Config, Refusal
from datalake.filters.scoring.examples import Trained
from datalake.text_bytes import text_bytes
from datalake.workspace import Workspace

_EVERY = "*"  # every language

BUILT_IN = {
    "adult": """
        anal sex, anal porn, bbw, bdsm, big boobs, big cock, big dick, big tits, blowjob,
        blowjobs, bondage, boob, boobs, bukkake, busty, camgirl, camgirls, cameltoe, cock
        sucking, creampie, cum, cumshot, cumshots, cunnilingus, deepthroat, dildo, dildos, dirty
        talk, doggy style, double penetration, ejaculate, erotica, escort girl, escort girls,
        facial cumshot, fellatio, femdom, fetish, fisting, footjob, free porn, fuck, fucked,
        fucking, futanari, gangbang, gloryhole, group sex, handjob, hardcore porn, hardcore sex,
        hentai, horny, hot girls, jack off, jerk off, jizz, masturbate, masturbating,
        masturbation, milf, milfs, nude girls, nude pics, nudes, nsfw, onlyfans, oral sex,
        orgasm, orgasms, orgy, panties, phone sex, porn, porno, pornhub, pornstar, pornstars,
        pussies, pussy, rimjob, sex cam, sex cams, sex chat, sex doll, sex tape, sex toy, sex
        toys, sex video, sex videos, sexcam, sexy girls, shemale, slutty, squirting, strapon,
        strip club, striptease, sucking cock, threesome, tit, tits, titties, topless, upskirt,
        vibrator, voyeur, wank, webcam girls, wet pussy, xhamster, xnxx, xvideos, xxx
    """,
    "toxic": """
        arse, arsehole, ass, asses, asshole, assholes, bastard, bastards, bitch, bitches,
        bitching, bollocks, bullshit, burn in hell, cocksucker, crap, cretin, cunt, cunts,
        dickhead, dickheads, die slowly, dipshit, douchebag, drop dead, dumbass, fuck, fuck off,
        fuck you, fucked, fucker, fuckers, fuckface, fucking, fuckwit, get lost, go die, go to
        hell, hang yourself, hate your guts, hope you die, i will hurt you, i will kill you,
        idiot, idiots, imbecile, jackass, jerk, kill you, kill yourself, kys, loser, losers,
        moron, morons, motherfucker, motherfuckers, motherfucking, numbskull, nutjob, piece of
        shit, pissed off, prick, pricks, scum, scumbag, scumbags, shit, shithead, shitty, shut
        the fuck up, shut up, slut, sluts, stfu, stupid, tosser, trash like you, twat, twats,
        vermin, wanker, wankers, whore, whores, worthless, you are pathetic, you disgust me, you
        should die
    """,
}


class WordListConfig(Config):
    """Score: places where a listed word or phrase ends, per word of the text.

    With ``files``, a document of a language without a file has no score.
    """

    kind: Literal["words"]
    words: Literal["adult", "toxic"] | None = None  # a built-in list, for documents of any language
    files: Mapping[str, str] = Field(
        default_factory=dict
    )  # language, or "*" for all others -> path
    # Where words have no borders; there the score is per character that is not space. As C4.
    by_character: tuple[str, ...] = ("ja", "th", "zh")

    @model_validator(mode="after")
    def _lists_something(self) -> Self:
        if (self.words is None) == (not self.files):
            raise ValueError("a word list must have either words or files")
        return self


@dataclass(frozen=True)
class WordList:
    """Listed words by language; picklable."""

    name: str
    listed: Mapping[str, tuple[str, ...]]
    by_character: tuple[str, ...]

    def score(self, documents: pa.RecordBatch) -> np.ndarray:
        """Listed words per word: float64 [rows]; NaN without words or without a list."""
        from datalake.filters.scoring.token_kernels import tables
        from datalake.filters.scoring.word_list_kernels import count

        scores = np.full(len(documents), np.nan)
        languages = documents["language"]
        for language in pc.unique(languages).to_pylist():
            listed = language if language in self.listed else _EVERY
            if listed not in self.listed:
                continue
            rows = np.flatnonzero(pc.equal(languages, language).to_numpy(zero_copy_only=False))
            by_character = listed in self.by_character
            found = count(
                *text_bytes(documents["text"].take(pa.array(rows))),
                *_lookup(self.listed[listed], by_character),
                *tables(),
                by_character,
            )
            with np.errstate(invalid="ignore"):
                scores[rows] = found[:, 0] / np.where(found[:, 1] > 0, found[:, 1], np.nan)
        return scores

    def save(self, folder: Path) -> None:
        said = {"listed": dict(self.listed), "by_character": self.by_character}
        text = json.dumps(said, ensure_ascii=False, sort_keys=True)
        (folder / "words.json").write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, name: str) -> Self:
        said = json.loads((folder / "words.json").read_text(encoding="utf-8"))
        listed = {language: tuple(words) for language, words in said["listed"].items()}
        return cls(name, listed, tuple(said["by_character"]))


def train(workspace: Workspace, version: int, name: str, config: WordListConfig) -> Trained:
    """The scorer of the lists. Raises Refusal for a file that is missing, not UTF-8 or empty."""
    if config.words is not None:
        listed = {_EVERY: _built_in(config.words)}
    else:
        listed = {
            language: _read(path, f"scorers.{name}.files.{language}")
            for language, path in sorted(config.files.items())
        }
    scorer = WordList(name, listed, config.by_character)
    return Trained(scorer, {f"{name}: listed words": sum(map(len, listed.values()))})


def _built_in(name: str) -> tuple[str, ...]:
    return tuple(sorted({" ".join(word.split()) for word in BUILT_IN[name].split(",")}))


def _read(path: str, place: str) -> tuple[str, ...]:
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        rule = "a file of UTF-8 text with a word a line"
        raise Refusal(f"{place} must be {rule}, got {path}: {error}") from error
    words = tuple(sorted({line.strip() for line in lines} - {""}))
    if not words:
        raise Refusal(f"{place} must list at least one word, got {path} with none")
    return words


@lru_cache(64)
def _lookup(
    words: tuple[str, ...], by_character: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sorted keys of the phrases, filters of their ends, and their numbers of tokens."""
    from datalake.filters.scoring.token_kernels import tables
    from datalake.filters.scoring.word_list_kernels import FILTER_BITS, phrase

    phrases = [
        phrase(np.frombuffer(word.encode(), np.uint8), *tables(), by_character) for word in words
    ]
    ends = np.zeros((2, int(FILTER_BITS) + 1), np.bool_)
    lengths = np.zeros(max(length for _, _, length in phrases) + 1, np.bool_)
    for _, end, length in phrases:
        ends[int(length > 1), int(end)] = lengths[length] = True
    return np.unique(np.array([key for key, _, _ in phrases], np.uint64)), ends, lengths
