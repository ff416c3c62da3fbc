"""What every setting of Tarn is, and how a wrong one is refused.

A setting is a frozen pydantic model that forbids unknown keys, declared beside the code that it
configures. ``Refusal`` is the one error for input that a person has to change: its message names
the place, the rule and the value.
"""

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """Base of every setting: frozen, strict about types, unknown keys forbidden."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Refusal(ValueError):  # noqa: N818, it reads as what it is
    """Input that cannot be used: ``<place> must be <rule>, got <value>``. Never retried."""
