"""The model of a checkpoint, to be asked and not trained."""

import torch
from pydantic import ValidationError

from datalake.config import Refusal
from training.checkpoint import Checkpoint
from training.models.language_model import LanguageModel, build
from training.models.variants import ModelConfig


def architecture(checkpoint: Checkpoint, vocab_size: int) -> ModelConfig:
    """What the checkpoint's model is built from.

    Raises Refusal where that is no architecture of this version, and where the tokenizer is of
    another ``vocab_size``: it would read and write other bytes than the model was taught.
    """
    try:
        config = ModelConfig.model_validate(checkpoint.manifest["config"]["model"])
    except ValidationError as problem:
        first = problem.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise Refusal(
            f"{checkpoint.path} must hold an architecture of this version of Tarn, got "
            f"{place}: {first['msg']}; train it anew"
        ) from None
    if config.vocab_size != vocab_size:
        raise Refusal(
            f"tokenizer must have the model's {config.vocab_size} tokens, got {vocab_size}"
        )
    return config


def load_model(checkpoint: Checkpoint, vocab_size: int) -> LanguageModel:
    """The checkpoint's model in float32, on an accelerator where there is one.

    Refuses what ``architecture`` refuses.
    """
    config = architecture(checkpoint, vocab_size)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = build(config).to(device)
    model.load_state_dict(checkpoint.load("weights", device))
    return model.float().eval()
