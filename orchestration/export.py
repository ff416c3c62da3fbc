"""``tarn export``: a model of the graph, or of any checkpoint, as a folder for other tools."""

from pathlib import Path

from orchestration.chat import find_checkpoint, tokenizer_of


def export(model: str, folder: Path) -> str:
    """Write ``model`` (as ``tarn chat`` takes it) and its tokenizer to ``folder``; what it became.

    Raises Refusal where there is no such model, or no family that others have can express it.
    """
    checkpoint = find_checkpoint(model)
    tokenizer = tokenizer_of(checkpoint)
    from training.inference.checkpointed import load_model
    from training.models.interchange import folder as folders

    loaded = load_model(checkpoint, tokenizer.vocab_size)
    family = folders.save(loaded, tokenizer, folder)
    num_params = sum(parameter.numel() for parameter in loaded.parameters())
    return f"{family.architecture}, {num_params:,} parameters: {folder}"
