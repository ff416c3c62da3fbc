"""A model as the folder that ``transformers`` and others load: config, weights, tokenizer.

===========================  ==================================================================
``config.json``              the architecture, in the words of its family (``families.py``)
``model.safetensors``        the weights; larger models have several files and
                             ``model.safetensors.index.json``, which says what is in which
``tokenizer.json`` and more  as ``training/tokenizer/interchange.py`` writes them
===========================  ==================================================================
"""

import fnmatch
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from datalake.config import Refusal
from training.models.experts import Experts
from training.models.interchange.families import family_for, family_of
from training.models.interchange.family import Family, Fields, reason
from training.models.language_model import LanguageModel
from training.models.variants import ModelConfig
from training.tokenizer import chat, interchange
from training.tokenizer.bpe import END_OF_TEXT, Tokenizer

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
HEAD = "lm_head.weight"  # in every family


def read_config(folder: Path) -> tuple[Family, ModelConfig]:
    """What the folder's model is. Refuses an architecture that Tarn does not have, by name."""
    path = folder / CONFIG
    given = _object(path)
    try:
        family = family_of(given)
        return family, family.read(Fields(given))
    except (Refusal, ValidationError) as error:
        raise Refusal(f"{path}: {reason(error).removeprefix(f'{CONFIG}: ')}") from None


def load(folder: Path | str) -> LanguageModel:
    """The model in ``folder``, in float32 on the CPU.

    Refuses a missing, unexpected or misshapen tensor by its name.
    """
    folder = Path(folder)
    family, config = read_config(folder)
    with torch.device("meta"):
        model = LanguageModel(config)
    shapes = model.state_dict()
    weights: dict[str, Tensor] = {}
    with ExitStack() as stack:
        files = _Files(folder, family, stack)
        for pair in family.pairs(config):
            expected = pair.there([shapes[name] for name in pair.ours])
            theirs = [
                files.take(name, tuple(like.shape))
                for name, like in zip(pair.theirs, expected, strict=True)
            ]
            ours = [_own(tensor) for tensor in pair.back(theirs)]
            weights |= dict(zip(pair.ours, ours, strict=True))
        files.check_rest(config, weights["embedding.weight"])
    model.load_state_dict(weights, assign=True)
    for module in model.modules():
        if isinstance(module, Experts):
            module.loads = torch.zeros_like(module.loads, device="cpu")  # no weight: in no file
    return model.eval()


def save(model: LanguageModel, tokenizer: Tokenizer | None, folder: Path | str) -> Family:
    """Write ``model`` and ``tokenizer`` as ``folder``, which is there whole or not at all.

    Returns the family that it was written as.
    Refuses a model that no family can express, naming the fields, a folder that holds anything,
    and a tokenizer of another size than the model's vocabulary.
    """
    folder = Path(folder)
    family, fields = family_for(model.config)
    if tokenizer is not None and tokenizer.vocab_size != model.config.vocab_size:
        raise Refusal(
            f"tokenizer must have the model's {model.config.vocab_size} tokens, "
            f"got {tokenizer.vocab_size}"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Refusal(f"{folder} must be a new or empty folder, got one that holds something")
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        weights = dict(_theirs(model, family))
        _write_json(draft / CONFIG, _config(family, fields, weights, tokenizer))
        save_file(weights, draft / WEIGHTS, {"format": "pt"})
        shutil.copymode(draft / CONFIG, draft / WEIGHTS)  # safetensors gives it to its owner alone
        if tokenizer is not None:
            interchange.save(tokenizer, draft)
        draft.chmod(0o755)
        draft.rename(folder)
        return family
    except BaseException:
        shutil.rmtree(draft)
        raise


def _theirs(model: LanguageModel, family: Family) -> Iterator[tuple[str, Tensor]]:
    """Name and weight of all that the family's files hold."""
    weights = model.state_dict()
    for pair in family.pairs(model.config):
        theirs = pair.there([weights.pop(name).cpu() for name in pair.ours])
        yield from zip(pair.theirs, (tensor.contiguous() for tensor in theirs), strict=True)
    if weights:
        raise Refusal(f"{family.model_type} must have a place for every weight, got {min(weights)}")


def _config(
    family: Family,
    fields: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    tokenizer: Tokenizer | None,
) -> dict[str, Any]:
    """The whole ``config.json``; tools that generate stop at its ``eos_token_id``."""
    dtype = str(next(iter(weights.values())).dtype).removeprefix("torch.")
    begin = None if tokenizer is None else tokenizer.special_tokens.get(END_OF_TEXT)
    return {
        "architectures": [family.architecture],
        "model_type": family.model_type,
        **fields,
        "torch_dtype": dtype,
        "bos_token_id": begin,
        "eos_token_id": _ends(tokenizer),
        "pad_token_id": None,
    }


def _ends(tokenizer: Tokenizer | None) -> list[int] | int | None:
    """Tokens that end an answer: that of a document, and that of a turn where there is one."""
    if tokenizer is None:
        return None
    names = (END_OF_TEXT, chat.END_OF_TURN)
    ids = [tokenizer.special_tokens[name] for name in names if name in tokenizer.special_tokens]
    return ids if len(ids) > 1 else next(iter(ids), None)


class _Files:
    """The tensors of a folder's files; each is taken once, and none may be left."""

    def __init__(self, folder: Path, family: Family, stack: ExitStack) -> None:
        self._folder, self._family = folder, family
        self._files: dict[str, Any] = {}  # by the name of a tensor
        for path in self._paths():
            try:
                file = stack.enter_context(safe_open(path, framework="pt"))
            except (SafetensorError, OSError) as error:
                raise Refusal(f"{path} must be a safetensors file, got {error}") from None
            self._files |= dict.fromkeys(file.keys(), file)

    def _paths(self) -> list[Path]:
        folder = self._folder
        if (folder / WEIGHTS).is_file():
            return [folder / WEIGHTS]
        if not (folder / INDEX).is_file():
            raise Refusal(f"{folder} must hold {WEIGHTS} or {INDEX}, got neither")
        places = _object(folder / INDEX).get("weight_map")
        if not isinstance(places, dict):
            raise Refusal(f"{folder / INDEX} must have a weight_map, got {places}")
        names = sorted({str(name) for name in places.values()})
        for name in names:
            if Path(name).name != name or not (folder / name).is_file():
                raise Refusal(f"{folder / INDEX} must name files beside it, got {name}")
        return [folder / name for name in names]

    def take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """The tensor ``name``, also where the file leaves the family's prefix out."""
        found = name if name in self._files else name.removeprefix(self._family.prefix)
        if found not in self._files:
            raise Refusal(f"{self._folder} must hold the tensor {name}, got none of that name")
        tensor = self._files.pop(found).get_tensor(found)
        if tuple(tensor.shape) != shape:
            raise Refusal(
                f"{self._folder}: {found} must be of shape {list(shape)}, got {list(tensor.shape)}"
            )
        return tensor

    def check_rest(self, config: ModelConfig, embedding: Tensor) -> None:
        """Refuse what was not taken, unless it is no weight, or the head that is the embedding."""
        for name, file in self._files.items():
            if any(fnmatch.fnmatch(name, pattern) for pattern in self._family.idle):
                continue
            if name == HEAD and config.tied and torch.equal(_own(file.get_tensor(name)), embedding):
                continue
            raise Refusal(
                f"{self._folder} must hold only tensors of {self._family.architecture}, got {name}"
            )


def _own(tensor: Tensor) -> Tensor:
    """In float32 and in memory of its own: a piece of a fused tensor would keep all of it."""
    return tensor.to(torch.float32, copy=True, memory_format=torch.contiguous_format)


def _object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        value = None
    if not isinstance(value, dict):
        raise Refusal(f"{path} must be a readable file of a JSON object, got another")
    return value


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")
