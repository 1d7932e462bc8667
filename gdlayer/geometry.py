"""The geometry of a layer's kernels: sigma, mu and theta as parameters, with bounds, sharing and isotropy."""

import math
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gdlayer._plumbing.checks import boolean, nonnegative_number, positive_number, some_of
from gdlayer._plumbing.computed import Computed
from gdlayer._plumbing.modes import of_whole_parameters, recorded
from gdlayer._plumbing.parameters import check_settable, parameters_behind
from gdlayer._plumbing.state import OwnState, written

GEOMETRY = ("sigma", "mu", "theta")
NARROWEST = 0.15
r"""A sigma in pixels above which weights start finite, whatever is drawn.

At the start a kernel's centre is at most :math:`\sqrt 2` from the nearest pixel. There a much narrower Gaussian is zero
in float32, and with it :math:`\|\phi\|`, by which weights are divided (:mod:`gdlayer.initialization`)."""


class Geometry(OwnState):
    r"""The part of a layer that holds sigma, mu and theta of B bases of N kernels.

    What trains in the place of sigma is s, the parameter ``raw_sigma``:

    .. math::
        \sigma &= \sigma_{min} + \mathrm{softplus}(s) \quad \text{or, with an upper bound,} \\
        \sigma &= \sigma_{min} + \frac{\sigma_{max} - \sigma_{min}}{1 + e^{-s}}

    Shared parameters have size 1 on axis N; an isotropic ``raw_sigma`` has size 1 on its last axis. ``theta`` is not
    wrapped: training takes it past :math:`\pm\pi`, so that averages over a run are right.
    """

    raw_sigma: nn.Parameter
    mu: nn.Parameter
    theta: nn.Parameter
    shaping = "raw_sigma", "mu", "theta"

    def set_geometry(
        self,
        bases: int,
        num_kernels: int,
        *,
        trainable: Iterable[str],
        shared: Iterable[str],
        isotropic: bool,
        sigma_min: float,
        sigma_max: float | None,
        start_sigma: Sequence[float] | None,
        start_mu: float,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        """Checks the arguments and makes the parameters, without values."""
        trains = some_of("trainable", trainable, GEOMETRY)
        self.shared = some_of("shared", shared, GEOMETRY)
        self.isotropic = boolean("isotropic", isotropic)
        self.sigma_min = positive_number("sigma_min", sigma_min)
        self.sigma_max = None if sigma_max is None else positive_number("sigma_max", sigma_max)
        if self.sigma_max is not None and self.sigma_max <= self.sigma_min:
            raise ValueError(f"sigma_max must be greater than sigma_min = {self.sigma_min}, got {self.sigma_max}")
        if self._sigma_limit <= NARROWEST:
            raise ValueError(
                f"sigma_max must be greater than {NARROWEST}, as narrower kernels can miss all pixels, "
                f"got {self.sigma_max}"
            )
        self.start_sigma = None if start_sigma is None else self._range_of_sigma(start_sigma)
        self.start_mu = nonnegative_number("start_mu", start_mu)
        self._geometry_shape = bases, num_kernels, 2
        sizes = {name: 1 if name in self.shared else num_kernels for name in GEOMETRY}

        def parameter(name: str, *shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape, device=device, dtype=dtype), name in trains)

        self.raw_sigma = parameter("sigma", bases, sizes["sigma"], 1 if isotropic else 2)
        self.mu = parameter("mu", bases, sizes["mu"], 2)
        self.theta = parameter("theta", bases, sizes["theta"])

    def _range_of_sigma(self, given: Sequence[float]) -> tuple[float, float]:
        low, high = max(self.sigma_min, NARROWEST), self._sigma_limit
        pair = tuple(given) if isinstance(given, Sequence) and not isinstance(given, str) else ()
        if (
            len(pair) != 2
            or not low <= positive_number("start_sigma", pair[0]) <= positive_number("start_sigma", pair[1]) <= high
        ):
            raise ValueError(f"start_sigma must be a pair of numbers, low <= high, from {low} to {high}, got {given!r}")
        return pair[0], pair[1]

    @torch.no_grad()
    def reset_geometry(self) -> None:
        """Draws sigma from the range ``start_sigma``, mu from U(-start_mu, start_mu) and theta from U(-pi, pi).

        The numbers are uniform and come from torch's global generator. Where ``start_sigma`` is None, sigma is drawn
        from U(0.5, 2); or if 0.5 is not between the bounds, from U(low, low + 1.5) with low = ``sigma_min``, or
        :data:`NARROWEST` if that is more; ``sigma_max`` ends either range.
        """
        largest = self._sigma_limit
        low = 0.5 if self.sigma_min < 0.5 < largest else max(self.sigma_min, NARROWEST)
        low, high = self.start_sigma or (low, min(low + 1.5, largest))
        sigma = torch.empty_like(self.raw_sigma, dtype=self._kernel_dtype).uniform_(low, high)
        self.raw_sigma.copy_(self._raw(sigma, margin=1e-3))
        self.mu.uniform_(-self.start_mu, self.start_mu)
        self.theta.uniform_(-math.pi, math.pi)

    @property
    def trainable(self) -> tuple[str, ...]:
        """Those of "sigma", "mu" and "theta" whose parameter requires a gradient; can be assigned."""
        return tuple(name for name, behind in self._behind_geometry().items() if any(p.requires_grad for p in behind))

    @trainable.setter
    def trainable(self, names: Iterable[str]) -> None:
        trains = some_of("trainable", names, GEOMETRY)
        for name, behind in self._behind_geometry().items():
            for parameter in behind:
                parameter.requires_grad_(name in trains)

    def _behind_geometry(self) -> dict[str, list[nn.Parameter]]:
        behind = (list(parameters_behind(self, name).values()) for name in self.shaping)
        return dict(zip(GEOMETRY, behind, strict=True))

    @property
    def sigma(self) -> Tensor:
        """Standard deviations (B, N, 2) in pixels, between their bounds by construction.

        They are computed from ``raw_sigma``: assign them, whole. To change them in place raises RuntimeError.
        """
        sigma = self._sigma()
        return sigma if recorded() or type(sigma) is not Tensor else sigma.as_subclass(Computed)

    def _sigma(self) -> Tensor:
        if self.sigma_max is None:
            sigma = self.sigma_min + F.softplus(self.raw_sigma)
        else:
            sigma = self.sigma_min + (self.sigma_max - self.sigma_min) * torch.sigmoid(self.raw_sigma)
        return sigma.expand(self._geometry_shape) if self.shared or self.isotropic else sigma

    @sigma.setter
    def sigma(self, value: Tensor | float) -> None:
        check_settable(self, "raw_sigma")
        shape = self._geometry_shape
        sigma = torch.as_tensor(value, dtype=self._kernel_dtype, device=self.raw_sigma.device)
        low, high = self.sigma_min, self._sigma_limit
        if not bool(((low < sigma) & (sigma < high)).all()):
            upper = "" if self.sigma_max is None else f" and less than sigma_max = {high}"
            raise ValueError(f"sigma must be finite and greater than sigma_min = {low}{upper}, got {value!r}")
        try:
            sigma = sigma.expand(shape)
        except RuntimeError:
            raise ValueError(f"sigma must broadcast to (B, N, 2) = {shape}, got shape {tuple(sigma.shape)}") from None
        stored = sigma[:, : self.raw_sigma.shape[1], : self.raw_sigma.shape[2]]
        if not bool((stored == sigma).all()):
            raise ValueError(
                f"sigma must be constant along the axes that shared={self.shared} and isotropic={self.isotropic} "
                f"leave one number, got {value!r}"
            )
        with torch.no_grad():
            self.raw_sigma.copy_(self._raw(stored))

    @of_whole_parameters
    def geometry(self) -> tuple[Tensor, Tensor, Tensor]:
        """sigma (B, N, 2), mu (B, N, 2) and theta (B, N) of every kernel, shared or not, in float32 or better."""
        dtype = self._kernel_dtype
        sigma, mu, theta = self._sigma().to(dtype), self.mu.to(dtype), self.theta.to(dtype)
        if self.shared:
            mu, theta = mu.expand(sigma.shape), theta.expand(sigma.shape[:2])
        return sigma, mu, theta

    @property
    def _kernel_dtype(self) -> torch.dtype:
        """float32 or better."""
        return torch.promote_types(self.raw_sigma.dtype, torch.float32)

    @property
    def _sigma_limit(self) -> float:
        return math.inf if self.sigma_max is None else self.sigma_max

    def _raw(self, sigma: Tensor, margin: float = 0.0) -> Tensor:
        """The s of these sigma, which are first moved ``margin`` away from the bounds."""
        above = (sigma - self.sigma_min).clamp_min(margin)
        if self.sigma_max is None:
            return inverse_softplus(above)
        return torch.log(above / (self.sigma_max - sigma).clamp_min(margin))

    def meaning(self) -> dict[str, Any]:
        """The bounds: the same s means another sigma between others."""
        return {"sigma_min": self.sigma_min, "sigma_max": self.sigma_max}

    def up_to_date(self, state_dict: dict[str, Any], prefix: str = "") -> None:
        """As every layer does; where older state dicts have the bounds of sigma alone, the rest is that of the layer.

        Unlike other layers, one without ``_extra_state`` lacks a key, of which a warning tells.
        """
        key = f"{prefix}_extra_state"
        known, state = key in state_dict, state_dict.get(key)
        super().up_to_date(state_dict, prefix)
        if not known:
            del state_dict[key]
            if f"{prefix}raw_sigma" in state_dict:
                warnings.warn(
                    f"{prefix}raw_sigma comes without {key}: sigma and the kernels change unless they are of a layer "
                    f"with {self.meaning()}",
                    stacklevel=2,
                )
        elif isinstance(state, Tensor) and _are_bounds(state):
            # an average by differences has inf - inf in the place of no upper bound
            theirs = state.to("cpu", torch.float64).nan_to_num(nan=math.inf, posinf=math.inf)
            ours = torch.tensor([self.sigma_min, self._sigma_limit], dtype=state.dtype, device="cpu").double()
            low, high = (
                (self.sigma_min, self._sigma_limit) if torch.allclose(theirs, ours, rtol=1e-6) else theirs.tolist()
            )
            bounds = {"sigma_min": low, "sigma_max": None if high == math.inf else high}
            state_dict[key] = written({**self.meaning(), **bounds})


def _are_bounds(state: Tensor) -> bool:
    has_values = state.layout is torch.strided and not state.is_meta
    return has_values and state.is_floating_point() and state.shape == (2,)


def inverse_softplus(y: Tensor) -> Tensor:
    """x with softplus(x) = log(1 + exp(x)) = y, for y > 0."""
    return y + torch.log(-torch.expm1(-y))


def clipped(x: Tensor, low: float, high: float) -> Tensor:
    """``x`` within bounds, with derivative 1 at a bound too: torch's ``clamp`` has 0 there since 2.14.

    A parameter that training has brought back to its bound must be able to leave it.
    """
    return torch.where(x < low, low, torch.where(x > high, high, x))
