"""A language model: tokens in, logits of the next token out.

What it is made of, with the defaults: an embedding, normed; blocks of causal attention (rotary
positions, normed queries and keys, the previous token mixed in, values with an embedding of the
token on odd layers) and a squared-ReLU feed-forward layer, each fed a normed residual stream into
which the embedding is mixed back; a norm; an untied head. Matrices that write into the residual
stream, and the head, start at zero.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datalake.config import Refusal
from training.models.block import Block
from training.models.documents import Documents
from training.models.norms import build_norm, compute_dtype
from training.models.positions import rotary_table, sinusoidal_table
from training.models.state import DecodingState
from training.models.variants import ModelConfig

Role = Literal["matrix", "head", "vector", "table"]
# Where the mixing weights start. For skip and shift the best of a few at 2e12 FLOPs (4 layers of
# 64, Python text): 0.02 bits per byte better than starting without.
VECTORS = {"skip": [1.0, 0.2], "shift": 0.5, "value_mix": [1.0, 1.0]}


class LanguageModel(nn.Module):
    """Next-token logits [batch, time, vocab] of tokens [batch, time].

    ``hidden`` gives the states before the head, which is ``head_weight`` [vocab, d_model]. Both
    take a ``state`` to go on from what was read before.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.value_embeddings = nn.ModuleDict(
            {
                str(layer): nn.Embedding(config.vocab_size, config.d_kv)
                for layer in range(config.num_layers)
                if config.has_value_embedding(layer)
            }
        )
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.num_layers))
        self.embedding_norm = build_norm(config)
        self.norm = build_norm(config)
        if not config.tied:
            self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)

    @property
    def head_weight(self) -> Tensor:
        return self.embedding.weight if self.config.tied else self.head.weight

    def forward(self, tokens: Tensor, state: DecodingState | None = None) -> Tensor:
        return self.logits(self.hidden(tokens, state))

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., vocab] of states [..., d_model]."""
        return F.linear(hidden, self.head_weight)

    def hidden(
        self,
        tokens: Tensor,
        state: DecodingState | None = None,
        documents: Tensor | None = None,
    ) -> Tensor:
        """States [batch, time, d_model] that the head reads; ``state`` goes on by these tokens.

        ``documents`` [batch, time] numbers the documents that lie one after the other in a row:
        each gets the states that it has alone. Padding is a document like others.
        Refuses more tokens than the context holds, and documents where a state is continued.
        """
        positions = self._positions(tokens.shape[1], state)
        place = positions if state is not None else slice(tokens.shape[1])
        parts = None if documents is None else self._locate(documents, state)
        x0 = self.embedding(tokens)
        if self.config.positions == "sinusoidal":
            own = place if parts is None else parts.positions
            x0 = x0 + sinusoidal_table(self.config, tokens.device)[own]
        x = x0 = self.embedding_norm(x0)
        turns = None
        if self.config.positions == "rope":
            turns = rotary_table(self.config, tokens.device)[place]
        for layer, block in enumerate(self.blocks):
            values = None
            if self.config.has_value_embedding(layer):
                values = self.value_embeddings[str(layer)](tokens)
            memory = None if state is None else state.blocks[layer]
            x = block(x, x0, values, turns, positions, memory, parts)
        if state is not None:
            state.num_read = state.num_read + tokens.shape[1]
        return self.norm(x)

    def _locate(self, documents: Tensor, state: DecodingState | None) -> Documents:
        if state is not None:
            raise Refusal("documents must be left out where a state is continued, got both")
        dtype = compute_dtype(self.head_weight)
        return Documents.locate(documents, self.config.window, dtype)

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
        blocks = cast(Iterable[Block], self.blocks)  # a ModuleList forgets of what
        return DecodingState(
            num_read=torch.zeros(batch, dtype=torch.int64, device=like.device),
            room=room,
            blocks=[block.empty_memory(batch, room, like) for block in blocks],
        )

    @torch.no_grad()
    def init_weights(self, seed: int) -> None:
        """Fresh weights from ``seed`` alone: the same on every device and layout.

        Tables: normal of deviation 1, since they are normed; 0.02 where tied (GPT-2). Matrices:
        uniform of deviation 1 / sqrt(inputs). Those that write into the residual stream, and the
        head: 0, so that the model starts as a uniform guess and every block as the identity
        (modded-nanogpt).
        """
        generator = torch.Generator().manual_seed(seed)
        for name, parameter, role in self.roles():
            draft = torch.zeros(parameter.shape)
            if role == "table":
                draft.normal_(generator=generator)
            elif parameter is self.embedding.weight:
                draft.normal_(std=0.02, generator=generator)
            elif role == "matrix" and not name.endswith(("out.weight", "down.weight")):
                bound = math.sqrt(3 / parameter.shape[1])
                draft.uniform_(-bound, bound, generator=generator)
            elif name.endswith("norm.weight"):
                draft.fill_(1)
            elif (vector := name.rpartition(".")[2]) in VECTORS:
                draft.copy_(torch.tensor(VECTORS[vector]))
            parameter.copy_(draft)

    def roles(self) -> Iterator[tuple[str, nn.Parameter, Role]]:
        """Name, parameter and what it is to an optimizer."""
        for name, parameter in self.named_parameters():
            if parameter is self.head_weight:
                yield name, parameter, "head"
            elif parameter.ndim < 2:
                yield name, parameter, "vector"
            else:
                yield name, parameter, "table" if "embedding" in name else "matrix"


def build(config: ModelConfig, seed: int = 0) -> LanguageModel:
    """The model of ``config`` with fresh weights from ``seed``, in float32 on the CPU."""
    model = LanguageModel(config)
    model.init_weights(seed)
    return model
