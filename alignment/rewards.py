"""What an answer is worth to a policy: right above all, then well said."""

from pydantic import Field

from datalake.config import Config
from evaluation.manner import style_score
from evaluation.verdict import Verdict


class RewardRule(Config):
    """Reward of an answer: its grader's score, and a bonus for style where it is right.

    The bonus is only for right answers, so no style makes up for being wrong, and the style that
    preferences taught is not forgotten while being right is rewarded.
    """

    style_weight: float = Field(ge=0)

    def reward(self, verdict: Verdict, text: str, style: str | None) -> float | None:
        """None where the grader failed: that says nothing of the answer, and must not be a 0."""
        if verdict.score is None:
            return None
        said = style_score(text, style) if style and verdict.score == 1 else 0.0
        return verdict.score + self.style_weight * said
