"""One block of the residual stream: a mixer over time, then a feed-forward layer over channels."""

import torch
from torch import Tensor, nn

from training.models.attention import Attention
from training.models.documents import Documents
from training.models.feed_forward import FeedForward
from training.models.norms import build_norm
from training.models.state import BlockMemory
from training.models.variants import ModelConfig


class Block(nn.Module):
    """[batch, time, d_model] -> the same.

    x <- a x + b x0 (where x0_skip); x <- x + mixer(shift(norm(x))); x <- x + ffn(norm(x)). With
    norm_place "post" the norms are on the outputs of mixer and ffn instead.
    """

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.config = config
        self.mixer = Attention(config, layer)
        self.feed_forward = FeedForward(config)
        self.mixer_norm = build_norm(config)
        self.feed_forward_norm = build_norm(config)
        if config.x0_skip:
            self.skip = nn.Parameter(torch.empty(2))
        if config.token_shift:
            self.shift = nn.Parameter(torch.empty(config.d_model))

    def empty_memory(self, batch: int, room: int, like: Tensor) -> BlockMemory:
        """What it remembers of ``batch`` sequences of ``room`` tokens, of which none was read."""
        previous = like.new_zeros(batch, self.config.d_model) if self.config.token_shift else None
        return BlockMemory(mixer=self.mixer.empty_memory(batch, room, like), previous=previous)

    def forward(
        self,
        x: Tensor,
        x0: Tensor,
        value_embedding: Tensor | None,
        turns: Tensor | None,
        positions: Tensor | None = None,
        memory: BlockMemory | None = None,
        documents: Documents | None = None,
    ) -> Tensor:
        post_norm = self.config.norm_place == "post"
        if self.config.x0_skip:
            x = self.skip[0] * x + self.skip[1] * x0
        h = x if post_norm else self.mixer_norm(x)
        if self.config.token_shift:
            h = self._mix_previous(h, memory, documents)
        cache = None if memory is None else memory.mixer
        mask = None if documents is None else documents.mask
        h = self.mixer(h, value_embedding, turns, positions, cache, mask)
        if post_norm:
            x = x + self.mixer_norm(h)
            return x + self.feed_forward_norm(self.feed_forward(x))
        x = x + h
        return x + self.feed_forward(self.feed_forward_norm(x))

    def _mix_previous(
        self, h: Tensor, memory: BlockMemory | None, documents: Documents | None
    ) -> Tensor:
        """h + shift (previous - h), per channel; zeros come before a document's first position."""
        if memory is None:
            first = h.new_zeros(h.shape[0], 1, h.shape[2])
        else:
            assert memory.previous is not None
            first = memory.previous[:, None].to(h.dtype)
            memory.previous = h[:, -1]
        previous = torch.cat((first, h[:, :-1]), dim=1)
        if documents is not None:
            previous = previous.masked_fill(documents.begins, 0)
        return torch.lerp(h, previous, self.shift.to(h.dtype))
