"""What a model costs, from its config alone: parameters, FLOPs, bytes.

One convention everywhere, so that laws, plans and utilisation figures agree (Kaplan et al. 2020,
arXiv:2001.08361; nanochat): a multiply and an add are two FLOPs, the backward pass costs twice the
forward, N counts the matrices and the head but no tables that are only looked up, and attention is
counted in full although a causal kernel may skip half of it.
"""

from training.models.variants import ModelConfig


def num_matmul_params(config: ModelConfig) -> int:
    """Parameters that multiply every token, the N of a law: all blocks' matrices and the head."""
    return config.num_layers * _block_matrices(config) + config.vocab_size * config.d_model


def num_table_params(config: ModelConfig) -> int:
    """Parameters that are looked up by token: embeddings, and value embeddings. 0 where tied."""
    embedding = 0 if config.tied else config.vocab_size * config.d_model
    layers = sum(config.has_value_embedding(layer) for layer in range(config.num_layers))
    return embedding + layers * config.vocab_size * config.d_kv


def num_params(config: ModelConfig) -> int:
    """All parameters of the built model."""
    vectors = config.num_layers * _block_vectors(config) + 2 * _norm_params(config)
    vectors += sum(2 * config.has_value_embedding(layer) for layer in range(config.num_layers))
    return num_matmul_params(config) + num_table_params(config) + vectors


def forward_flops_per_token(config: ModelConfig, context: int) -> int:
    """FLOPs to read one token that attends to ``context`` positions: 2 N + 4 L d context."""
    seen = min(context, config.span)
    return 2 * num_matmul_params(config) + 4 * config.num_layers * config.d_model * seen


def answer_flops(config: ModelConfig, num_read: int, num_predicted: int, context: int) -> float:
    """FLOPs to read ``num_read`` tokens that attend to ``context`` positions, and predict some.

    The head is paid for where logits are made, which for answers is not everywhere. Training on
    the answers costs three times as much.
    """
    head = 2 * config.vocab_size * config.d_model
    body = forward_flops_per_token(config, context) - head
    return float(num_read * body + num_predicted * head)


def train_flops_per_token(config: ModelConfig) -> int:
    """FLOPs to train on one token of a full context: 6 N + 12 L d T (T the window, if any)."""
    return 3 * forward_flops_per_token(config, config.context_length)


def decode_cache_bytes(config: ModelConfig, context: int, bytes_per_value: int = 2) -> int:
    """Bytes that decoding remembers of one sequence of ``context`` tokens.

    Keys and values, constant once ``context`` passes the window, and the token that is shifted.
    """
    held = min(context, config.span)
    shifted = config.d_model if config.token_shift else 0
    return config.num_layers * (2 * held * config.d_kv + shifted) * bytes_per_value


def _block_matrices(config: ModelConfig) -> int:
    attention = 2 * config.d_model * config.d_model + 2 * config.d_model * config.d_kv
    num_matrices = 3 if config.activation == "swiglu" else 2
    return attention + num_matrices * config.d_model * config.d_ff


def _block_vectors(config: ModelConfig) -> int:
    shift = config.d_model if config.token_shift else 0
    skip = 2 if config.x0_skip else 0
    return shift + skip + 2 * _norm_params(config)


def _norm_params(config: ModelConfig) -> int:
    return 2 * config.d_model if config.norm == "layer" else 0
