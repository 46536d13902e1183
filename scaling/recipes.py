"""The published policy-gradient recipes, by name, as options of one objective: `scaling.objectives`.

This module starts without JAX and NumPy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MOST_DRAWS = 4
"""A recipe that redraws groups without variance stops after this many draws a step."""


@dataclass(frozen=True)
class Recipe:
    """Options of the policy-gradient objective."""

    reference: str
    """Where the recipe was published."""
    baseline: Literal["group_mean", "leave_one_out"]
    """What is subtracted from a reward."""
    scale: Literal["none", "group_std", "batch_std"]
    """What the difference is divided by."""
    term: Literal["reinforce", "clipped", "cispo"]
    """reinforce: A·log π. clipped: min(ρA, clip(ρ, 1−clip_low, 1+clip_high)·A).
    cispo: stop_gradient(min(ρ, 1+clip_high))·A·log π."""
    aggregate: Literal["sequence_sum", "sequence_mean", "constant", "token_mean", "prompt_mean"]
    """How tokens are averaged; `objectives.weights` says each."""
    zero_variance: Literal["keep", "filter", "redraw"] = "keep"
    """Groups whose rewards are all equal: kept, dropped from the loss, or dropped and replaced by new problems."""
    clip_low: float = 0.2
    clip_high: float = 0.2
    overlong: float = 0.0
    """Share of the thinking budget over which a linear penalty of at most 1 sets in (soft overlong punishment)."""

    @property
    def draws(self) -> int:
        """Most times that problems are drawn in one step."""
        return MOST_DRAWS if self.zero_variance == "redraw" else 1


RECIPES = {
    "rloo": Recipe("arXiv 2402.14740", "leave_one_out", "none", "reinforce", "sequence_sum"),
    "grpo": Recipe("arXiv 2402.03300", "group_mean", "group_std", "clipped", "sequence_mean"),
    "dr_grpo": Recipe("arXiv 2503.20783", "group_mean", "none", "clipped", "constant"),
    "dapo": Recipe(
        "arXiv 2503.14476",
        "group_mean",
        "group_std",
        "clipped",
        "token_mean",
        "redraw",
        clip_high=0.28,
        overlong=0.2,
    ),
    "cispo": Recipe(
        "arXiv 2506.13585, with the choices of ScaleRL, arXiv 2510.13786",
        "group_mean",
        "batch_std",
        "cispo",
        "prompt_mean",
        "filter",
        clip_high=4.0,
    ),
}
