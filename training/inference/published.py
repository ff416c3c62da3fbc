"""The model of a folder that others published, to be asked and not trained."""

from pathlib import Path

import torch

from datalake.config import Refusal
from training.models.interchange import folder as folders
from training.models.language_model import LanguageModel


def check(folder: Path) -> None:
    """Raise Refusal for an architecture that Tarn does not have, before anything large is read."""
    folders.read_config(folder)


def load_model(folder: Path, vocab_size: int) -> LanguageModel:
    """The folder's model in float32, on an accelerator where there is one.

    It has the ``vocab_size`` tokens of its tokenizer. Raises Refusal for an architecture that Tarn
    does not have, damaged files, and a model of fewer tokens.
    """
    model = within(folders.load(folder), vocab_size)
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def within(model: LanguageModel, vocab_size: int) -> LanguageModel:
    """``model`` with its first ``vocab_size`` tokens alone.

    Vocabularies are published padded to a round number; what pads them stands for no text. Raises
    Refusal for a model of fewer tokens.
    """
    config = model.config
    if vocab_size == config.vocab_size:
        return model
    if vocab_size > config.vocab_size:
        raise Refusal(
            f"tokenizer must have at most the model's {config.vocab_size} tokens, got {vocab_size}"
        )
    with torch.device("meta"):
        smaller = LanguageModel(config.model_copy(update={"vocab_size": vocab_size}))
    weights = {
        name: weight[:vocab_size].clone() if weight.shape[0] != like.shape[0] else weight
        for (name, like), weight in zip(
            smaller.state_dict().items(), model.state_dict().values(), strict=True
        )
    }
    smaller.load_state_dict(weights, assign=True)
    return smaller.eval()
