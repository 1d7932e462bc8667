"""Writes pyscsp_kernels.json, values of Tony Lindeberg's pyscsp: ``pip install pyscsp==1.0.3``, then run this file."""

import json
from pathlib import Path

import numpy as np
from pyscsp.discscsp import applydirder, discgaussconv, make1Dintgaussfilter  # pyright: ignore

SIZE = 5
CENTRE = 20
WINDOW = slice(CENTRE - SIZE // 2, CENTRE + SIZE // 2 + 1)
ORDERS = [(p, total - p) for total in range(5) for p in range(total + 1)]
CASES = [(0.4, 0.0), (0.5, 0.6), (1.0, 0.0), (1.5, -2.0)]  # sigma and angle


def rounded(values: np.ndarray) -> list[float]:
    return [float(f"{value:.9e}") for value in values.flatten()]


def discrete(sigma: float, angle: float) -> dict[str, object]:
    """Scale-normalised, rows downwards as here: pyscsp's run upwards."""
    impulse = np.zeros((2 * CENTRE + 1, 2 * CENTRE + 1))
    impulse[CENTRE, CENTRE] = 1
    smooth = discgaussconv(impulse, sigma, 1e-12)
    kernels = [applydirder(smooth, angle, p, q, sigma)[::-1][WINDOW, WINDOW] for p, q in ORDERS]
    return {"sigma": sigma, "theta": angle, "kernels": [rounded(kernel) for kernel in kernels]}


def integrated(sigma: float) -> dict[str, object]:
    line = make1Dintgaussfilter(sigma, 1e-12)
    middle = len(line) // 2
    return {"sigma": sigma, "line": rounded(line[middle - SIZE // 2 : middle + SIZE // 2 + 1])}


if __name__ == "__main__":
    golden = {
        "size": SIZE,
        "orders": ORDERS,
        "discrete": [discrete(*case) for case in CASES],
        "integrated": [integrated(sigma) for sigma, _ in CASES],
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(golden) + "\n", "utf-8")
