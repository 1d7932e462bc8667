r"""Lindeberg's discrete analogue of Gaussian derivatives, rotated and shifted through its Fourier transform.

In one dimension the Gaussian of variance :math:`\sigma^2` on the integers is :math:`T(n) = e^{-\sigma^2}
I_n(\sigma^2)` with the modified Bessel functions I, and derivatives are central differences,
:math:`\delta_x f(n) = \frac12 (f(n + 1) - f(n - 1))` and :math:`\delta_{xx} f(n) = f(n + 1) - 2 f(n) + f(n - 1)`. Their
transforms are, with :math:`X = 2 \sin(\omega/2)`,

.. math:: \hat T = e^{-\sigma^2 X^2 / 2}, \qquad \hat\delta_{x^a} = (iX)^a \cos(\omega/2)^{a \bmod 2}

which continues the kernel to any position between the integers.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gdlayer._plumbing.modes import autocast_off
from gdlayer._plumbing.quadrature import gauss_legendre


class Spectrum(NamedTuple):
    """The frequencies of the integral over half of the square, and what is the same there for all kernels."""

    omega: Tensor
    """(2, F)."""
    measure: Tensor
    r"""Twice :math:`d\omega / 4 \pi^2`, (F,): the kernels are real, so omega and -omega agree."""
    x: Tensor
    r""":math:`X = 2 \sin(\omega_1/2)`, (F,)."""
    y: Tensor
    r""":math:`Y = 2 \sin(\omega_2/2)`, (F,)."""
    cos_x: Tensor
    r""":math:`\cos(\omega_1/2)`, (F,)."""
    cos_y: Tensor
    r""":math:`\cos(\omega_2/2)`, (F,)."""
    cos: Tensor
    r""":math:`\cos(\omega \cdot \mathbf x)`, (F, P)."""
    sin: Tensor
    r""":math:`\sin(\omega \cdot \mathbf x)`, (F, P)."""
    quarters: Tensor
    """The phases of i^(p + q), (N, 1)."""


def spectrum(points: Tensor, orders: Sequence[tuple[int, int]], kernel_size: tuple[int, int]) -> Spectrum:
    """The :class:`Spectrum` for the pixels of a window, float64 tensors.

    Parameters
    ----------
    points : float64 tensor of shape (2, P)
        x and y in pixels.
    orders : N pairs (p, q)
    kernel_size : (kh, kw)
        Sets the number of frequencies of an axis, which is odd: one is zero.
    """
    t, weight = gauss_legendre(4 * max(kernel_size) + 11)
    middle = len(t) // 2
    halves = torch.cat((weight[middle : middle + 1] / 2, weight[middle + 1 :]))
    omega = math.pi * torch.stack(torch.broadcast_tensors(t[middle:, None], t)).flatten(1)
    (x, y), (cos_x, cos_y) = 2 * torch.sin(omega / 2), torch.cos(omega / 2)
    angle = omega.T @ points
    return Spectrum(
        omega,
        measure=(halves[:, None] * weight).flatten() / 2,
        x=x,
        y=y,
        cos_x=cos_x,
        cos_y=cos_y,
        cos=torch.cos(angle),
        sin=torch.sin(angle),
        quarters=torch.tensor([[p + q] for p, q in orders], device="cpu").to(points) * (math.pi / 2),
    )


def discrete_kernels(
    sigma: Tensor, mu: Tensor, theta: Tensor, at: Spectrum, orders: Sequence[tuple[int, int]]
) -> Tensor:
    r"""Discrete analogues of the kernels of eq. (1).

    .. math::
        \phi(\mathbf x) &= \frac{1}{4\pi^2} \int_{[-\pi, \pi]^2} i^{p+q}\, [U^p V^q]\, \hat T(\omega)\,
            e^{i \omega \cdot (\mathbf x - R_\theta^\top \mu)}\, d\omega \\
        \hat T &= e^{-\frac12 (\sigma_1^2 [U^2] + \sigma_2^2 [V^2])} \\
        U &= X \cos\theta + Y \sin\theta, \qquad V = -X \sin\theta + Y \cos\theta \\
        X &= 2 \sin(\omega_1/2), \qquad Y = 2 \sin(\omega_2/2)

    where the brackets multiply terms odd in X by :math:`\cos(\omega_1/2)` and terms odd in Y by
    :math:`\cos(\omega_2/2)`. These are Lindeberg's discrete affine Gaussian, whose covariance is that of the continuous
    one, and his directional derivatives of it.

    The integral is right to 1e-6 of the kernel's peak for a sigma up to a third of the window and orders up to 4, to
    1e-3 at half the window, and to a tenth at 6/7 of it.

    Parameters
    ----------
    sigma, mu, theta : tensors
        Of shapes (..., N, 2), (..., N, 2) and (..., N).
    at : Spectrum
        Of the points and orders.
    orders : N pairs (p, q)

    Returns
    -------
    tensor of shape (..., N, P)
    """
    cos, sin = torch.cos(theta)[..., None], torch.sin(theta)[..., None]
    axes = torch.stack((cos * at.x + sin * at.y, cos * at.y - sin * at.x))  # U, V: (2, ..., N, F)
    mirrored = torch.stack((sin * at.y - cos * at.x, cos * at.y + sin * at.x))  # with -X for X

    def bracket(of_axes: Tensor, of_mirrored: Tensor, even: Tensor | float, odd: Tensor) -> Tensor:
        return 0.5 * ((of_axes + of_mirrored) * even + (of_axes - of_mirrored) * odd)  # even and odd in X

    def derivative(n: int, p: int, q: int) -> Tensor:
        here, there = (u[..., n, :] ** p * v[..., n, :] ** q for u, v in (axes, mirrored))
        even, odd = (at.cos_y, at.cos_x) if (p + q) % 2 else (1.0, at.cos_x * at.cos_y)
        return bracket(here, there, even, odd)

    squares = bracket(axes.square(), mirrored.square(), 1.0, at.cos_x * at.cos_y)
    gaussian = torch.exp(-0.5 * (sigma.square().movedim(sigma.dim() - 1, 0)[..., None] * squares).sum(0))
    amplitude = at.measure * gaussian * torch.stack([derivative(n, p, q) for n, (p, q) in enumerate(orders)], -2)

    m_1, m_2 = mu[..., None].unbind(-2)
    centre_x, centre_y = cos * m_1 - sin * m_2, sin * m_1 + cos * m_2  # R^T mu
    phase = centre_x * at.omega[0] + centre_y * at.omega[1] - at.quarters
    with autocast_off(theta.device):  # cos(omega x - phase), taken apart:
        return (amplitude * torch.cos(phase)) @ at.cos + (amplitude * torch.sin(phase)) @ at.sin
