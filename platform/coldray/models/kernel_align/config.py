"""The parameters of KernelAlign."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from coldray.core.errors import ConfigError
from coldray.models.base import ModelConfig


class KernelAlignConfig(ModelConfig):
    """Parameters of :class:`~coldray.models.kernel_align.model.KernelAlign`."""

    alpha: NonNegativeFloat = Field(default=0.2, le=2)
    """α, how far popular items are damped in the smoothing over users."""
    ridge: PositiveFloat = 6.0
    """λ of the smoothing over users, in units of the mean diagonal of A."""
    popularity: NonNegativeFloat = 0.0
    """γ, the weight of the predicted popularity; 0 leaves it out, unlearned."""
    click_ridge: PositiveFloat | None = None
    """λ of the clicks on an item, in units of the mean number of them: with it an item is known by its clicks as well,
    and clicks on new items are taken without a new fit. None leaves an item's own clicks out, but for what makes them
    the clicks on all others."""
    prior_clicks: PositiveFloat = 1.5
    """κ, clicks that say as much of an item as its attributes, in units of the mean number. Read with `click_ridge`."""
    new_weight: PositiveFloat = 4.0
    """What new items' scores are multiplied by, in relation to those of warm ones: their clicks are to come, most of
    those of warm items are behind them. Read with `click_ridge`."""
    clickers: NonNegativeFloat = 0.5
    """γ_c, the weight of what those who clicked a new item tell of its popularity. Read with `click_ridge`."""
    n_factors: PositiveInt = 64
    """Dimensions of the profiles that the covariance is learned from; fewer where there are fewer items or users."""
    subset: PositiveInt = 900
    """Warm items the covariance is learned on; all of them are inverted."""
    steps: PositiveInt = 40
    """Steps of Adam."""
    min_noise: PositiveFloat = 1e-3
    """Floor of σ² while the covariance is learned."""
    noise_factor: PositiveFloat = 1.0
    """What σ² is multiplied by once it is learned. It is learned on targets of a few factors, which know little of how
    noisy the clicks of an item are that has but a handful of them."""
    seed: NonNegativeInt = 0
    """Seed of the subset, of the inducing items and of the popularity's trees."""
    form: Literal["auto", "exact", "inducing"] = "auto"
    """``exact`` solves with the covariance of all warm items, ``inducing`` sees all items through some of them.
    ``auto`` is exact where that fits in memory and takes less than an hour; a study decides once for all its fits."""
    exact_items: NonNegativeInt | None = None
    """Items beyond which ``auto`` is not exact, whatever fits."""
    inducing: PositiveInt | None = None
    """Warm items through which all others are seen; by default as many as `inducing_tolerance` asks for."""
    inducing_tolerance: PositiveFloat = Field(default=0.15, lt=1)
    """What inducing items may leave unexplained of the variance of clicked ones. The fewer labels items share, the more
    is lost by the same share: a study measures what its lists lose, and tells it."""
    most_inducing: PositiveInt = 10_000
    """Inducing items at most, where the tolerance asks for more; a study lowers it to what fits in memory."""

    @model_validator(mode="after")
    def _clicks_are_exact(self) -> Self:
        if self.click_ridge is not None and self.form == "inducing":
            raise ConfigError(
                f"click_ridge={self.click_ridge:g} knows items by their clicks, at which form='inducing' does not look."
                " Use form='exact' or 'auto', or leave click_ridge out."
            )
        return self

    @property
    def n_inducing(self) -> int:
        """Inducing items at most."""
        return self.inducing or self.most_inducing
