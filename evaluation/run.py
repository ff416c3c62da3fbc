"""The stages of this room, in order: score a model, rank what was scored, describe the model."""

from pathlib import Path

from pydantic import Field, PositiveInt

from datalake.config import Config
from datalake.workspace import Inputs, Made, Workspace


class PromptConfig(Config):
    """How a base model is shown at work: openings of held-out documents, continued."""

    per_source: PositiveInt = 3  # as many as a reader looks at
    prompt_tokens: PositiveInt = 48  # a few lines of code or two sentences: enough to set a topic
    new_tokens: PositiveInt = 64
    # .8 is best where many samples are drawn (Chen et al. 2021, arXiv:2107.03374); nucleus of .95
    # (Holtzman et al. 2020, arXiv:1904.09751).
    temperature: float = Field(default=0.8, gt=0)
    top_p: float = Field(default=0.95, gt=0, le=1)


class EvaluationConfig(Config):
    """How one model is scored."""

    name: str  # what the pages call the model
    rows_per_batch: PositiveInt = 16  # changes memory and speed, not the score
    prompts: PromptConfig = PromptConfig()
    seed: int = 0  # of the sampled continuations


class LeaderboardConfig(Config):
    """What the leaderboard is headed with."""

    title: str = "Leaderboard"


class ModelCardConfig(Config):
    """What a person has to say about a model, since no measurement can."""

    purpose: str | None = None  # what it was made for; None says on the card that nobody stated it


class Settings(Config):
    """Section ``evaluation`` of a recipe."""

    base_evaluation: EvaluationConfig
    leaderboard: LeaderboardConfig = LeaderboardConfig()
    model_card: ModelCardConfig = ModelCardConfig()


def leaderboard(workspace: Workspace, inputs: Inputs, config: LeaderboardConfig) -> Made:
    """Every evaluated model, scores with intervals drawn. Reads each ``*_evaluation`` input."""
    from evaluation import leaderboard as board_of
    from evaluation import scorecard

    evaluations = [scorecard.read(str(folder)) for _, folder in sorted(inputs.items())]
    board = board_of.rank(evaluations)
    folder, content = workspace.save_artifact(
        "leaderboard", lambda draft: board_of.write(draft, board, config.title)
    )
    whole = board.standings[0]
    best = whole.places[0]
    return Made(
        version=folder,
        content=content,
        rows=len(whole.places),
        num_bytes=num_bytes_in(folder),
        report={
            "best": best.name,
            "best_bits_per_byte": best.bits_per_byte.value,
            "models": sum(not place.baseline for place in whole.places),
            "documents": whole.num_documents,
            "page": str(Path(folder) / "index.html"),
        },
        plots={"Bits per byte": board_of.standing_chart(whole)},
    )


def num_bytes_in(folder: str | Path) -> int:
    """Size of the files below ``folder``."""
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
