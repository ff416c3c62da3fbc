"""The catalogue: what a model can be made of, put together layer by layer.

A recipe names a preset and its sizes (``presets``), or spells out named layers and the pattern
that they follow. Parts are tagged ``kind`` and have only their own fields; each is a file in
``configs`` (what it is and costs) and one of the same name that computes it. A new one is these two
files, and a word in a union here.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, ValidationError, model_validator

from datalake.config import Config, Refusal
from training.models.configs.attention import AttentionConfig
from training.models.configs.experts import ExpertsConfig
from training.models.configs.feed_forward import DenseConfig
from training.models.configs.gated_delta import GatedDeltaConfig
from training.models.configs.latent_attention import LatentAttentionConfig
from training.models.configs.linear_attention import LinearAttentionConfig
from training.models.configs.local import LocalConfig
from training.models.configs.mamba import Mamba2Config
from training.models.configs.ngram_memory import NgramMemoryConfig
from training.models.configs.norms import Norm
from training.models.configs.parts import Sizes

MAX_VOCAB_SIZE = 2**20  # three ids, as n-gram baselines pack them, fit 63 bits

# Not strict: what a validator saw before is a list, also in JSON and YAML.
Names = Annotated[tuple[str, ...], Field(strict=False)]
Mixer = Annotated[
    AttentionConfig
    | LatentAttentionConfig
    | Mamba2Config
    | LinearAttentionConfig
    | GatedDeltaConfig,
    Field(discriminator="kind"),
]
FeedForward = Annotated[DenseConfig | ExpertsConfig, Field(discriminator="kind")]


class Layer(Config):
    """One kind of block: a mixer over time, then a feed-forward layer over channels."""

    mixer: Mixer
    feed_forward: FeedForward | None
    local: LocalConfig | None = None
    memory: NgramMemoryConfig | None = None  # read before the mixer


class ModelConfig(Config):
    """A decoder-only language model. What has no default, a preset or a recipe must say."""

    vocab_size: int = Field(ge=2, le=MAX_VOCAB_SIZE)
    context_length: PositiveInt
    d_model: PositiveInt
    num_layers: PositiveInt
    layers: dict[str, Layer]  # by a name that ``first`` and ``pattern`` use
    pattern: Names  # names of layers, repeated to the last one
    first: Names = ()  # of the layers before the pattern
    norm: Norm = Norm()
    # "pre": before each part (Xiong et al. 2020, arXiv:2002.04745); "post": after the sum, as in
    # Vaswani et al. 2017; "sandwich": before and after the part (Gemma 3, arXiv:2503.19786);
    # "reordered": after the part, inside the residual branch (OLMo 2, arXiv:2501.00656).
    norm_place: Literal["pre", "post", "sandwich", "reordered"] = "pre"
    positions: Literal["none", "learned", "sinusoidal"] = "none"  # added to the embedding
    embedding_norm: bool = False
    # "sqrt_d_model": at any width (Gemma, arXiv:2403.08295).
    embedding_scale: PositiveFloat | Literal["sqrt_d_model"] = 1.0
    residual_scale: PositiveFloat = 1.0  # of what each part adds
    # The embedding is mixed back in before each block (modded-nanogpt).
    x0_skip: bool = False
    # Untied is worth 1.11x at 124M parameters (modded-nanogpt); with 16k vocabularies and d_model
    # 512-768 tied was better by 1.02-1.07x (marin).
    tied: bool = False
    final_norm: bool = True
    logit_scale: PositiveFloat = 1.0
    logit_softcap: PositiveFloat | None = None
    # "zero": matrices that write into the residual stream, and the head, start at 0
    # (modded-nanogpt); "normal": deviation 0.02, residual ones 0.02 / sqrt(2 layers) (GPT-2).
    init: Literal["zero", "normal"] = "zero"
    # Width at which rates were found, so that they hold at this one (``width.py``); None: they are
    # taken as they are.
    base_width: PositiveInt | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_preset(cls, given: Any) -> Any:
        """What a preset's name and sizes stand for."""
        if not isinstance(given, dict) or "preset" not in given:
            return given
        from training.models.presets.by_name import spell_out

        return spell_out(given)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.pattern:
            raise Refusal("pattern must name a layer, got none")
        for place in ("first", "pattern"):
            for name in getattr(self, place):
                if name not in self.layers:
                    known = ", ".join(self.layers) or "none"
                    raise Refusal(f"{place} must name layers ({known}), got {name}")
        if len(self.first) > self.num_layers:
            raise Refusal(
                f"first must name at most num_layers {self.num_layers}, got {len(self.first)}"
            )
        if unused := self.layers.keys() - {*self.first, *self.pattern}:
            raise Refusal(f"layers must all be in first or pattern, got {min(unused)} in neither")
        if self.positions == "sinusoidal" and self.d_model % 2:
            raise Refusal(f"d_model must be even where positions are sinusoids, got {self.d_model}")
        for name, layer in self.layers.items():
            for part in parts(layer):
                try:
                    part.check(self.sizes)
                except Refusal as refusal:
                    raise Refusal(f"layers.{name}: {refusal}") from None
        if self.base_width is not None and self.base_width != self.d_model:
            try:
                self.resized(self.base_width)
            except (Refusal, ValidationError):
                raise Refusal(
                    f"base_width must be one that its parts can have, got {self.base_width}"
                ) from None
        return self

    @property
    def sizes(self) -> Sizes:
        return Sizes(self.d_model, self.context_length, self.vocab_size)

    def layer_name(self, index: int) -> str:
        """Of layer ``index``, counted from 0."""
        after = index - len(self.first)
        return self.first[index] if after < 0 else self.pattern[after % len(self.pattern)]

    def layer(self, index: int) -> Layer:
        return self.layers[self.layer_name(index)]

    def all_layers(self) -> list[Layer]:
        """From the first to the last."""
        return [self.layer(index) for index in range(self.num_layers)]

    def resized(self, d_model: int, num_layers: int | None = None) -> "ModelConfig":
        """The same architecture at another size: every part keeps its proportions.

        Refuses a width that its parts cannot have.
        """
        new = self.sizes._replace(d_model=d_model)
        layers = {
            name: layer.model_copy(
                update={
                    field: part.resized(self.sizes, new)
                    for field in Layer.model_fields
                    if (part := getattr(layer, field)) is not None
                }
            )
            for name, layer in self.layers.items()
        }
        changes = {"d_model": d_model, "num_layers": num_layers or self.num_layers}
        resized = self.model_copy(update={**changes, "layers": layers})
        return ModelConfig.model_validate(resized.model_dump())


def parts(layer: Layer) -> Iterator[Any]:
    """Those that the layer has."""
    for field in Layer.model_fields:
        if (part := getattr(layer, field)) is not None:
            yield part
