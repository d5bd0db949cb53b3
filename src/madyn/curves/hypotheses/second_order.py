"""The unit step response of a damped second-order system, as one function of all damping ratios.

Textbooks give three formulas (underdamped, critical, overdamped). A fit crosses zeta = 1 while it searches, where two
of them are 0/0, and the overdamped one overflows at large times. The response is an analytic function of zeta, so here
it is computed from quantities that stay finite and accurate through zeta = 1 and at any time.

With u = omega_n t and d = sqrt(|1 - zeta^2|), z = d u, the response of s'' + 2 zeta s' + s = 1 from rest is

    s = 1 - exp(-zeta u) (cos z + zeta u sin(z)/z)

where cos and sin become cosh and sinh above zeta = 1. There exp(-zeta u) exp(z) = exp(-u / (zeta + d)) is factored
out, so that only decaying exponentials are left. Its derivatives follow from the differential equation:

    ds/du = h = exp(-zeta u) u sin(z)/z                         the impulse response
    ds/dzeta = -2 (h convolved with h) = -u^3 exp(-zeta u) (sin z - z cos z)/z^3
"""

from __future__ import annotations

from math import factorial
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from madyn.typing import Array

# (sin z - z cos z)/z^3 cancels for small z: there its power series in z^2 is used, exact to rounding for z < 1.
_SERIES = [2 * (m + 1) / factorial(2 * m + 3) for m in range(9)]


class _Parts(NamedTuple):
    """Every factor that oscillates or grows has been divided by the exponential that `decay` carries."""

    zeta: Array
    u: Array
    over: NDArray[np.bool_]
    z: Array
    decay: Array
    cosine: Array
    sine: Array
    sinc: Array

    def response(self) -> Array:
        """s itself."""
        return 1 - self.decay * (self.cosine + self.zeta * self.u * self.sinc)

    def curvature(self) -> Array:
        """(sin z - z cos z)/z^3, or its counterpart above zeta = 1."""
        sign = np.where(self.over, -1.0, 1.0)
        series, square = np.zeros_like(self.z), -sign * np.minimum(self.z, 1) ** 2
        for coefficient in reversed(_SERIES):
            series = series * square + coefficient
        series = series * np.where(self.over, np.exp(-self.z), 1.0)
        return np.where(self.z < 1, series, sign * (self.sine - self.z * self.cosine) / (self.z * self.z * self.z))


def _parts(u: ArrayLike, zeta: ArrayLike) -> _Parts:
    u, zeta = np.asarray(u, float), np.asarray(zeta, float)
    over = zeta > 1
    d = np.sqrt(np.abs(1 - zeta)) * np.sqrt(1 + zeta)
    z = d * u
    decay = np.exp(-u * np.where(over, 1 / (zeta + d), zeta))
    over, under = np.broadcast_to(over, z.shape), np.broadcast_to(~over, z.shape)
    below = np.expm1(-2 * z, where=over, out=np.zeros(z.shape))
    cosine = np.cos(z, where=under, out=1 + below / 2)
    sine = np.sin(z, where=under, out=-below / 2)
    sinc = np.divide(sine, z, where=z != 0, out=np.ones(z.shape))
    return _Parts(zeta, u, over, z, decay, cosine, sine, sinc)


def step_response(u: ArrayLike, zeta: ArrayLike) -> Array:
    """Response at dimensionless time u = omega_n t >= 0 for damping ratio zeta >= 0; shapes broadcast.

    >>> step_response([0.0, 1.0, 1e9], 1.0).round(6).tolist()
    [0.0, 0.264241, 1.0]
    """
    with np.errstate(all="ignore"):
        return _parts(u, zeta).response()


def step_response_gradient(u: ArrayLike, zeta: ArrayLike) -> tuple[Array, Array, Array]:
    """(s, ds/du, ds/dzeta): `step_response` and its derivatives, each of the broadcast shape."""
    with np.errstate(all="ignore"):
        p = _parts(u, zeta)
        # The cube is taken after the decay, so that u^3 cannot overflow where the decay has already won.
        decayed = p.u * np.cbrt(p.decay)
        return p.response(), p.decay * p.u * p.sinc, -(decayed * decayed * decayed) * p.curvature()
