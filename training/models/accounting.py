"""What a model costs, from its config alone: parameters, FLOPs, bytes.

Sums of what its parts say (``configs/parts.py``, where the conventions stand), and the head.
"""

from training.models.configs.parts import Params
from training.models.variants import ModelConfig, parts


def params(config: ModelConfig) -> Params:
    """All parameters of the built model, by what they are to a token."""
    sizes = config.sizes
    norm = config.norm.num_params(config.d_model)
    norms_of_part = 2 if config.norm_place == "sandwich" else 1
    table = config.vocab_size * config.d_model
    total = Params(
        matrices=table,  # the head, which where tied is the embedding
        active=table,
        tables=(not config.tied) * table,
        vectors=norm * (config.final_norm + config.embedding_norm),
    )
    if config.positions == "learned":
        total = total.plus(Params(tables=config.context_length * config.d_model))
    for layer in config.all_layers():
        for part in parts(layer):
            total = total.plus(part.num_params(sizes))
        num_normed = 1 + (layer.feed_forward is not None)
        skip = 2 if config.x0_skip else 0
        total = total.plus(Params(vectors=num_normed * norms_of_part * norm + skip))
    return total


def num_params(config: ModelConfig) -> int:
    """All parameters of the built model."""
    return params(config).total


def num_matmul_params(config: ModelConfig) -> int:
    """Parameters that multiply every token, the N of a law: blocks' matrices and the head.

    Of experts, those that one token meets.
    """
    return params(config).active


def num_table_params(config: ModelConfig) -> int:
    """Parameters that are looked up: embeddings of tokens, values and positions. 0 where tied."""
    return params(config).tables


def training_flops(config: ModelConfig, context: int) -> int:
    """FLOPs to train on a row of ``context`` tokens: 6 N T + 6 L d T (T + 1) of plain attention."""
    return 3 * reading_flops(config, context)


def reading_flops(config: ModelConfig, context: int) -> int:
    """FLOPs of the forward pass over one row of ``context`` tokens, with logits everywhere."""
    return _body_flops(config, context) + 2 * config.vocab_size * config.d_model * context


def decoding_flops(config: ModelConfig, context: int) -> int:
    """FLOPs to read one more token when ``context`` tokens were read, and to predict the next."""
    body = sum(
        part.decoding_flops(config.sizes, context)
        for layer in config.all_layers()
        for part in parts(layer)
    )
    return body + 2 * config.vocab_size * config.d_model


def train_flops_per_token(config: ModelConfig) -> float:
    """FLOPs to train on one token, on average over a full context."""
    return training_flops(config, config.context_length) / config.context_length


def answer_flops(config: ModelConfig, num_read: int, num_predicted: int, context: int) -> float:
    """FLOPs to read ``num_read`` tokens in rows of ``context``, and predict some.

    The head is paid for where logits are made, which for answers is not everywhere. Training on
    the answers costs three times as much.
    """
    head = 2 * config.vocab_size * config.d_model
    return num_read * _body_flops(config, context) / context + num_predicted * head


def state_bytes(config: ModelConfig, context: int, bytes_per_value: int = 2) -> int:
    """Bytes that decoding remembers of one sequence of ``context`` tokens.

    ``bytes_per_value`` is of the dtype that the model computes in; positions are not counted.
    """
    return sum(
        part.state_bytes(config.sizes, context, bytes_per_value)
        for layer in config.all_layers()
        for part in parts(layer)
    )


def _body_flops(config: ModelConfig, context: int) -> int:
    """Of the forward pass without the head."""
    return sum(
        part.reading_flops(config.sizes, context)
        for layer in config.all_layers()
        for part in parts(layer)
    )
