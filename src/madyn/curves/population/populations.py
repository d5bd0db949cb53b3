"""What trajectories of a kind of run have in common: `Population`, a Student's t process of their logarithms.

A trajectory is log y(s) at shares s of the planned run. Of many runs the mean of log y and its covariance between any
two shares are known on a grid; both are interpolated, linear in log(s + the grid's first share after 0). Of a young run
the level is not held known (it has a variance of its own, so large that only the seen part decides), so that a run at
200 and one at 10 are alike if both double. What was seen of it then says what comes by the rules of conditioning alone:

    log y_ahead | log y_seen ~ t_dof(m_a + K_as K_ss^-1 (log y_seen - m_s),
                                     widening^2 f (K_aa - K_as K_ss^-1 K_sa) + growth^2 h h')
    f = (firmness + d^2)/(firmness + n - 1)    d^2, how far the n points seen lie off the population, by K_ss^-1

so that a run which has been unlike the population gets wider bands. Early steps count for less, since recipes differ
most in how they begin: K_ss has (forgetting h_s)^2 on its diagonal beside the noise of a measurement. h is the distance
of a share from the last one seen, in its logarithm. `widening`, `firmness`, `growth` and `dof` are those under which
runs of held-out kinds were likeliest (`learning`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from madyn.arrays import number, read
from madyn.errors import UsageError
from madyn.typing import Array

LEVEL_VARIANCE = 100.0
"""Of the logarithm of a series' level: a factor of e^10, so that the population says nothing of it."""

_NUMBERS = ("noise", "forgetting", "dof", "firmness", "widening", "growth", "together")


@dataclass(frozen=True, eq=False)
class Population:
    """How the logarithm of a trajectory goes over a run.

    Attributes:
        shares: (G,), of the planned run, from 0 to 1, ascending.
        mean: (G,), of log y.
        cov: (G, G), its covariance.
        noise: the standard deviation of a single measurement's log y, beyond `cov`.
        forgetting: the standard deviation of log y by which a point seen counts as less certain, for each factor e
            that lies between its step and the last one seen.
        dof: degrees of freedom of the t distribution, above 2.
        firmness: how many points of a run that is as the population is count as much as what the population says of how
            far runs lie off.
        widening: the factor of the conditional standard deviation.
        growth: the standard deviation of log y that is added for each factor e of the step.
        together: the correlation of the layers of one run, from 0 to below 1.
        source: where it comes from, in words.

    Raises:
        UsageError: a number or a shape is not as said.
    """

    shares: Array
    mean: Array
    cov: Array
    noise: float
    forgetting: float
    dof: float
    firmness: float
    widening: float
    growth: float
    together: float
    source: str = "a population"

    def __repr__(self) -> str:
        return (
            f"<madyn Population: {self.source}\n {len(self.shares)} shares of a run, t with {self.dof:.3g} degrees of "
            f"freedom, bands widened by {self.widening:.3g}\n look_ahead(population, steps, values, last_step)>"
        )

    def __post_init__(self) -> None:
        size = read(self.shares, "the population's shares").values.size
        for name, shape in (("shares", (size,)), ("mean", (size,)), ("cov", (size, size))):
            value = read(getattr(self, name), f"the population's {name}").values
            if value.shape != shape or not np.all(np.isfinite(value)):
                raise UsageError(f"the population's {name} has shape {value.shape}; expected finite numbers, {shape}")
            object.__setattr__(self, name, value)
        ascending = size >= 3 and self.shares[0] == 0 and self.shares[-1] == 1 and np.all(np.diff(self.shares) > 0)
        if not ascending:
            raise UsageError("the population's shares are not three or more that ascend from 0 to 1")
        least = np.linalg.eigvalsh(self.cov)[0]
        if not np.allclose(self.cov, self.cov.T) or least < -1e-5 * np.max(np.abs(self.cov)):
            raise UsageError("the population's cov is no covariance matrix")
        numbers = {name: number(getattr(self, name), f"the population's {name}") for name in _NUMBERS}
        sound = {
            "noise": numbers["noise"] > 0,
            "forgetting": numbers["forgetting"] >= 0,
            "dof": numbers["dof"] > 2,
            "firmness": numbers["firmness"] > 0,
            "widening": numbers["widening"] > 0,
            "growth": numbers["growth"] >= 0,
            "together": 0 <= numbers["together"] < 1,
        }
        for name, value in numbers.items():
            if not sound[name] or not np.isfinite(value):
                raise UsageError(f"the population's {name} is {value:g}, which is out of its range")

    def weights(self, shares: ArrayLike) -> Array:
        """(m, G), by which values on the grid are combined to those at these shares (m,); beyond 1, as at 1."""
        first = self.shares[1]
        x, grid = np.log(np.asarray(shares, float) + first), np.log(self.shares + first)
        place = np.clip(np.searchsorted(grid, x) - 1, 0, len(grid) - 2)
        part = np.clip((x - grid[place]) / (grid[place + 1] - grid[place]), 0.0, 1.0)
        found = np.zeros((x.size, grid.size))
        found[np.arange(x.size), place] = 1 - part
        found[np.arange(x.size), place + 1] += part
        return found
