"""Tokens: from text to packed rows of token ids."""

from orchestration.step import Step

STEPS = (
    Step(
        key="tokenizer",
        group="tokens",
        inputs=("corpus",),
        build="training.run:tokenizer",
        section=lambda recipe: recipe.training.tokenizer,
        kinds=("python", "numpy"),
        says="Byte-pair encoding trained on the corpus.",
        tells=(
            "vocab_size",
            "bytes per token",
        ),
    ),
    Step(
        key="tokens",
        group="tokens",
        inputs=("corpus", "tokenizer"),
        build="training.run:tokens",
        section=lambda recipe: recipe.training.tokens,
        code=2,
        kinds=("spark", "deltalake"),
        says="Encoded documents, and token rows packed from them, each naming its documents.",
        tells=(
            "encoded now",
            "train tokens",
            "train rows filled",
            "validation tokens",
        ),
    ),
)
