"""A small tokenizer for every named pattern, learned from a corpus that every test can afford."""

from tests.training.tokenizer.texts_to_try import CORPUS
from training.tokenizer.bpe import END_OF_TEXT, Tokenizer
from training.tokenizer.learning.bpe_trainer import learn_merges
from training.tokenizer.learning.pretokens import PretokenCounter
from training.tokenizer.patterns import PATTERNS, character_classes
from training.tokenizer.scanning.scanner import scan_table
from training.tokenizer.texts import Texts

CLASSES, _ = character_classes()
SCAN_TABLE = scan_table(CLASSES)
SPECIAL = (END_OF_TEXT, "<|end|>", "<|endof")  # names that begin alike


def train(pattern: str, corpus: list[str] = CORPUS, vocab_size: int = 700) -> Tokenizer:
    counter = PretokenCounter(pattern, CLASSES, 1)
    counter.add(Texts.of(corpus))
    merges = learn_merges(counter.counts(), vocab_size, len(SPECIAL))
    return Tokenizer(merges.pairs, pattern, CLASSES, SPECIAL)


TOKENIZERS = {pattern: train(pattern) for pattern in PATTERNS}
