"""Hermite polynomials and one-dimensional Gaussian derivatives: pure functions of tensors.

Section 2 of the paper writes every Gaussian derivative as a Hermite polynomial times a Gaussian. The relation
printed there holds at sigma = 1 only; :func:`gaussian_derivatives` uses the correct one, which the book proves in its
chapter on Hermite polynomials.
"""

import math

import torch
from torch import Tensor


def hermite_polynomials(x: Tensor, order: int) -> Tensor:
    r"""Physicists' Hermite polynomials :math:`H_0, \dots, H_K` at ``x``.

    .. math:: H_0 = 1, \quad H_1(x) = 2x, \quad H_{p+1}(x) = 2x H_p(x) - 2p H_{p-1}(x)

    the recurrence of the series :math:`H_p(x) = \sum_i (-1)^i \frac{p!}{i!(p-2i)!} (2x)^{p-2i}` of section 2, which
    cancels less.

    Parameters
    ----------
    x : tensor of any shape
    order : int
        The highest order K >= 0.

    Returns
    -------
    tensor of shape (K + 1, *x.shape)

    Raises
    ------
    ValueError
        If ``order`` is not an integer >= 0.
    """
    _check_order(order)
    h = [torch.ones_like(x), 2 * x]
    for p in range(1, order):
        h.append(2 * x * h[p] - 2 * p * h[p - 1])
    return torch.stack(h[: order + 1])


def gaussian_derivatives(x: Tensor, sigma: Tensor | float, order: int) -> Tensor:
    r"""The Gaussian and its derivatives :math:`G_0, \dots, G_K` at ``x``.

    .. math::
        G_p(x, \sigma) &= \frac{\partial^p}{\partial x^p} G(x, \sigma)
            = \Big(\frac{-1}{\sqrt 2 \sigma}\Big)^p H_p\Big(\frac{x}{\sqrt 2 \sigma}\Big)\, G(x, \sigma) \\
        G(x, \sigma) &= \frac{1}{\sigma \sqrt{2\pi}} e^{-x^2 / 2\sigma^2}

    evaluated by :func:`standard_gaussian_derivatives`.

    Parameters
    ----------
    x : tensor of any shape
        Positions in pixels.
    sigma : tensor that broadcasts with ``x``, or float
        Standard deviation in pixels, positive.
    order : int
        The highest order K >= 0.

    Returns
    -------
    tensor of shape (K + 1, *broadcast shape)
        Order p has the unit pixels ** -(p + 1).

    Raises
    ------
    ValueError
        If ``order`` is not an integer >= 0.
    """
    sigma = torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
    g = standard_gaussian_derivatives(x / sigma, order)
    return torch.stack([g_p / (math.sqrt(2 * math.pi) * sigma ** (p + 1)) for p, g_p in enumerate(g)])


def standard_gaussian_derivatives(t: Tensor, order: int) -> list[Tensor]:
    r"""The derivatives of :math:`e^{-t^2/2}` of orders 0 to K.

    .. math:: g_0 = e^{-t^2/2}, \quad g_1 = -t\, g_0, \quad g_{p+1} = -(t\, g_p + p\, g_{p-1})

    is the recurrence of the Hermite polynomials times the Gaussian: no power overflows far from the centre, where the
    Gaussian is zero. With it :math:`G_p(x, \sigma) = g_p(x / \sigma) / (\sqrt{2\pi}\, \sigma^{p+1})`.

    Parameters
    ----------
    t : tensor of any shape
        Positions in units of sigma.
    order : int
        The highest order K >= 0.

    Raises
    ------
    ValueError
        If ``order`` is not an integer >= 0.
    """
    _check_order(order)
    g = [torch.exp(-0.5 * t * t)]
    minus_t = -t
    if order > 0:
        g.append(minus_t * g[0])
    for p in range(1, order):
        g.append(torch.add(minus_t * g[p], g[p - 1], alpha=-p))
    return g


def _check_order(order: int) -> None:
    if not isinstance(order, int) or isinstance(order, bool) or order < 0:
        raise ValueError(f"order must be an integer >= 0, got {order!r}")
