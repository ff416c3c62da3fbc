"""A language model: tokens in, logits of the next token out.

An embedding; blocks of a mixer over time and a feed-forward layer over channels, around a residual
stream; a norm; a head. ``variants.py`` says what there is to choose.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datalake.config import Refusal
from training.kernels.attention import document_mask
from training.models.block import Block
from training.models.experts import Experts, Routing
from training.models.norms import build_norm, compute_dtype
from training.models.positions import rotary_table, sinusoidal_table
from training.models.reading import Reading
from training.models.state import DecodingState
from training.models.variants import ModelConfig
from training.models.width import input_growth, rate_multipliers

Role = Literal["matrix", "head", "vector", "table"]
# Where the mixing weights start. For skip and shift the best of a few at 2e12 FLOPs (4 layers of
# 64, Python text): 0.02 bits per byte better than starting without.
VECTORS = {"skip": [1.0, 0.2], "shift": 0.5, "value_mix": [1.0, 1.0]}
FILTERS = ("taps",)  # of convolutions: two axes, yet no matrix; their modules say where they start
OUTPUTS = ("out", "down")  # matrices that write into the residual stream


class LanguageModel(nn.Module):
    """Next-token logits [batch, time, vocab] of tokens [batch, time].

    ``hidden`` gives the states before the head, which is ``head_weight`` [vocab, d_model]. Both
    take a ``state`` to go on from what was read before.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        if config.positions == "learned":
            self.position_embedding = nn.Embedding(config.context_length, config.d_model)
        mixers = [layer.mixer for layer in config.all_layers()]
        # What all layers share of a pass, in the order in which layers first ask for it.
        turning = [mixer.turning(config.sizes) for mixer in mixers]
        self.ropes = list(dict.fromkeys(rope for rope in turning if rope is not None))
        self.windows = list(dict.fromkeys(m.span for m in mixers if m.is_pairwise))
        self.blocks = nn.ModuleList(
            Block(
                config,
                layer,
                rope=None if rope is None else self.ropes.index(rope),
                mask=self.windows.index(layer.mixer.span) if layer.mixer.is_pairwise else None,
            )
            for layer, rope in zip(config.all_layers(), turning, strict=True)
        )
        if config.embedding_norm:
            self.embedding_norm = build_norm(config.norm, config.d_model)
        if config.final_norm:
            self.norm = build_norm(config.norm, config.d_model)
        if not config.tied:
            self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.head_scale = config.logit_scale  # of the states that the head reads
        if config.tied and config.base_width is not None:
            self.head_scale *= config.base_width / config.d_model

    @property
    def head_weight(self) -> Tensor:
        return self.embedding.weight if self.config.tied else self.head.weight

    def forward(self, tokens: Tensor, state: DecodingState | None = None) -> Tensor:
        return self.logits(self.hidden(tokens, state))

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., vocab] of states [..., d_model]."""
        logits, cap = F.linear(hidden, self.head_weight), self.config.logit_softcap
        return logits if cap is None else cap * torch.tanh(logits / cap)

    def hidden(
        self,
        tokens: Tensor,
        state: DecodingState | None = None,
        documents: Tensor | None = None,
        routing: list[Routing] | None = None,
    ) -> Tensor:
        """States [batch, time, d_model] that the head reads; ``state`` goes on by these tokens.

        ``documents`` [batch, time] numbers the documents that lie one after the other in a row:
        each gets the states that it has alone. Padding is a document like others. Layers of experts
        append to ``routing`` where they sent the tokens.
        Refuses more tokens than the context holds, and documents where a state is continued.
        """
        seen = self._reading(tokens, state, documents)
        x = x0 = self._embedded(seen)
        blocks = cast(Sequence[Block], self.blocks)  # a ModuleList forgets of what
        memories = [None] * len(blocks) if state is None else state.blocks
        # All before the first layer, so that what lies in host memory is there when it is needed.
        found = [
            block.look_up(seen, memory) for block, memory in zip(blocks, memories, strict=True)
        ]
        for block, memory, rows in zip(blocks, memories, found, strict=True):
            x = block(x, x0, seen, memory, rows, routing)
        if state is not None:
            state.num_read = state.num_read + tokens.shape[1]
        x = self.norm(x) if self.config.final_norm else x
        return x if self.head_scale == 1 else self.head_scale * x

    def _embedded(self, seen: Reading) -> Tensor:
        """What enters the first block."""
        config = self.config
        x = self.embedding(seen.ids)
        scale = config.embedding_scale
        if scale != 1:
            x = x * (math.sqrt(config.d_model) if scale == "sqrt_d_model" else scale)
        if config.positions != "none":
            x = x + self._position_table(x.device)[seen.places].to(x.dtype)
        return self.embedding_norm(x) if config.embedding_norm else x

    def _position_table(self, device: torch.device) -> Tensor:
        config = self.config
        if config.positions == "learned":
            return self.position_embedding.weight
        return sinusoidal_table(config.d_model, config.context_length, device)

    def _reading(
        self, tokens: Tensor, state: DecodingState | None, documents: Tensor | None
    ) -> Reading:
        """What the layers know of ``tokens``."""
        if state is not None and documents is not None:
            raise Refusal("documents must be left out where a state is continued, got both")
        positions = self._positions(tokens.shape[1], state)
        begins = None
        masks: tuple[Tensor, ...] = ()
        if documents is not None:
            begins, places = locate(documents)
            dtype = compute_dtype(self.head_weight)
            masks = tuple(document_mask(documents, window, dtype) for window in self.windows)
        elif positions is not None:
            places = positions
        else:
            places = torch.arange(tokens.shape[1], device=tokens.device)
        # Turns depend on distances alone, so documents need none of their own.
        place = slice(tokens.shape[1]) if positions is None else positions
        turns = tuple(
            rotary_table(rope, width, self.config.context_length, tokens.device)[place]
            for rope, width in self.ropes
        )
        return Reading(
            ids=tokens,
            positions=positions,
            places=places,
            documents=documents,
            begins=begins,
            turns=turns,
            masks=masks,
        )

    def _positions(self, time: int, state: DecodingState | None) -> Tensor | None:
        """[batch, time] where a state is continued. Refuses what the context cannot hold."""
        longest, context = time, self.config.context_length
        if state is not None:
            longest += int(state.num_read.max())
            if context >= longest > state.room:
                raise Refusal(
                    f"tokens must be at most the state's room {state.room}, got {longest}"
                )
        if longest > context:
            raise Refusal(f"tokens must be at most context_length {context}, got {longest}")
        if state is None:
            return None
        return state.num_read[:, None] + torch.arange(time, device=state.num_read.device)

    def empty_state(self, batch: int, room: int | None = None) -> DecodingState:
        """The state of ``batch`` sequences of which nothing was read yet.

        ``room`` is how many tokens of each will be read in all; None is the whole context.
        """
        context = self.config.context_length
        room = context if room is None else min(room, context)
        like = self.head_weight.new_empty(0, dtype=compute_dtype(self.head_weight))
        blocks = cast(Sequence[Block], self.blocks)
        return DecodingState(
            num_read=torch.zeros(batch, dtype=torch.int64, device=like.device),
            room=room,
            blocks=[block.empty_memory(batch, room, like) for block in blocks],
        )

    @torch.no_grad()
    def init_weights(self, seed: int) -> None:
        """Fresh weights from ``seed`` alone: the same on every device and layout.

        A module that has a say in where its own parameters start gives ``initial``. Else tables:
        normal of deviation 1, since they are normed; 0.02 where tied (GPT-2). Matrices: uniform of
        deviation 1 / sqrt(inputs). Those that write into the residual stream, and the head: 0, so
        that the model starts as a uniform guess and every block as the identity
        (modded-nanogpt). With init "normal" everything has deviation 0.02, and what writes into
        the stream 0.02 / sqrt(2 layers) (Radford et al. 2019, GPT-2); that is at ``base_width``,
        where it is set, and less where matrices have more inputs (``width.py``).
        """
        generator = torch.Generator().manual_seed(seed)
        growth = self._input_growth()
        for name, parameter, role in self.roles():
            draft = torch.zeros(parameter.shape)
            path, _, leaf = name.rpartition(".")
            say = getattr(self.get_submodule(path), "initial", None)
            own = None if say is None else say(leaf, draft, generator)
            if own is None:
                own = self._drafted(name, draft, role, growth[name], generator)
            parameter.copy_(own)
        for module in self.modules():
            if isinstance(module, Experts):
                module.reset()

    def _drafted(
        self, name: str, draft: Tensor, role: Role, growth: float, generator: torch.Generator
    ) -> Tensor:
        """Where a parameter of no say starts; ``growth`` as ``input_growth`` has it."""
        config = self.config
        parents = name.split(".")
        leaf = parents[-1]
        is_output = leaf in OUTPUTS or parents[-2] in OUTPUTS
        if leaf in VECTORS:
            return draft.copy_(torch.tensor(VECTORS[leaf]))
        if role == "vector":  # gains and biases
            return draft.fill_(leaf == "weight")
        if config.init == "normal":
            std = 0.02 / math.sqrt(2 * config.num_layers) if is_output else 0.02
            if role == "matrix":
                std /= math.sqrt(growth)
            elif role == "head" and not config.tied:
                std /= growth
            return draft.normal_(std=std, generator=generator)
        if role == "table":
            return draft.normal_(generator=generator)
        if role == "head":
            return draft.normal_(std=0.02, generator=generator) if config.tied else draft
        bound = 0.0 if is_output else math.sqrt(3 / draft.shape[-1])
        return draft.uniform_(-bound, bound, generator=generator) if bound else draft

    def rate_multipliers(self) -> dict[str, float]:
        """What Adam's rate of each parameter is to be multiplied by (``width.py``)."""
        return rate_multipliers(self._input_growth(), self.config.tied)

    def _input_growth(self) -> dict[str, float]:
        """How many more inputs each parameter has than at ``base_width``; 1 where none is set."""
        base_width = self.config.base_width
        if base_width is None:
            return dict.fromkeys(dict(self.named_parameters()), 1.0)
        with torch.device("meta"):
            base = LanguageModel(self.config.resized(base_width))
        return input_growth(self.roles(), base.parameters())

    def roles(self) -> Iterator[tuple[str, nn.Parameter, Role]]:
        """Name, parameter and what it is to an optimizer."""
        for name, parameter in self.named_parameters():
            if parameter is self.head_weight:
                yield name, parameter, "head"
            elif parameter.ndim < 2 or name.rpartition(".")[2] in (*VECTORS, *FILTERS):
                yield name, parameter, "vector"
            else:
                yield name, parameter, "table" if "embedding" in name else "matrix"


def locate(documents: Tensor) -> tuple[Tensor, Tensor]:
    """(whether a token is its document's first [batch, time, 1], its place there [batch, time])."""
    begins = torch.ones_like(documents, dtype=torch.bool)
    begins[:, 1:] = documents[:, 1:] != documents[:, :-1]
    place = torch.arange(documents.shape[1], device=documents.device)
    first = torch.where(begins, place, 0).cummax(dim=1).values
    return begins[:, :, None], place - first


def build(config: ModelConfig, seed: int = 0) -> LanguageModel:
    """The model of ``config`` with fresh weights from ``seed``, in float32 on the CPU."""
    model = LanguageModel(config)
    model.init_weights(seed)
    return model
