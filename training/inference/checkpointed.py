"""The model of a checkpoint, to be asked and not trained."""

import torch
from pydantic import TypeAdapter

from datalake.config import Refusal
from training.checkpoint import Checkpoint
from training.models.language_model import LanguageModel, build
from training.models.variants import ModelConfig


def architecture(checkpoint: Checkpoint, vocab_size: int) -> ModelConfig:
    """What the checkpoint's model is built from.

    Raises Refusal where the tokenizer is of another ``vocab_size``: it would read and write other
    bytes than the model was taught.
    """
    config: ModelConfig = TypeAdapter(ModelConfig).validate_python(
        checkpoint.manifest["config"]["model"]
    )
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
