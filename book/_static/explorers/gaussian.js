// Equation (1) of the paper and what chapter 2 says of it, as in the package: gdlayer/basis.py and gdlayer/sampling.py.
// A shape is {p, q, sigma1, sigma2, mu1, mu2, theta}, lengths in pixels and theta in radians. Kernels are square, in
// rows; x runs along columns, y along rows, both from the centre.
const gaussian = (() => {
  // G_p(x, σ) = g_p(x/σ) / (√(2π) σ^{p+1}), the derivatives of exp(-t²/2) being g_{k+1} = -(t g_k + k g_{k-1})
  const profile = (x, order, sigma) => {
    const t = x / sigma;
    let before = 0;
    let g = Math.exp(-0.5 * t * t);
    for (let k = 0; k < order; k++) [before, g] = [g, -(t * g + k * before)];
    return g / (Math.sqrt(2 * Math.PI) * sigma ** (order + 1));
  };

  // Calls visit(index, u - μ1, v - μ2) at each of size² samples: u = x cos θ + y sin θ, v = -x sin θ + y cos θ
  const everySample = ({ mu1, mu2, theta }, size, visit) => {
    const [cos, sin, half] = [Math.cos(theta), Math.sin(theta), (size - 1) / 2];
    for (let row = 0, index = 0; row < size; row++) {
      for (let column = 0; column < size; column++, index++) {
        const [x, y] = [column - half, row - half];
        visit(index, x * cos + y * sin - mu1, -x * sin + y * cos - mu2);
      }
    }
  };

  // φ(x, y) = G_p(u - μ1, σ1) G_q(v - μ2, σ2)
  const kernel = (shape, size) => {
    const samples = new Float64Array(size * size);
    everySample(shape, size, (index, u, v) => {
      samples[index] = profile(u, shape.p, shape.sigma1) * profile(v, shape.q, shape.sigma2);
    });
    return samples;
  };

  const factorial = (n) => (n > 1 ? n * factorial(n - 1) : 1);

  // Σ f_ab φ over the samples for all a + b ≤ p + q, f_ab = σ1^p σ2^q (-ũ)^a (-ṽ)^b / a! b!
  const moments = (samples, shape, size) => {
    const { p, q, sigma1, sigma2 } = shape;
    const sums = Array.from({ length: p + q + 1 }, (_, a) => new Float64Array(p + q + 1 - a));
    everySample(shape, size, (index, u, v) => {
      let alongU = samples[index];
      for (let a = 0; a <= p + q; a++, alongU *= -u / sigma1) {
        let value = alongU;
        for (let b = 0; a + b <= p + q; b++, value *= -v / sigma2) sums[a][b] += value;
      }
    });
    const unit = sigma1 ** p * sigma2 ** q;
    return sums.flatMap((row, a) => [...row].map((sum, b) => (sum * unit) / (factorial(a) * factorial(b))));
  };

  // ∫ G_d² = Γ(d + 1/2) / (2π σ^{2d+1}), Γ(d + 1/2) = √π · 1/2 · 3/2 ⋯
  const energy = (order, sigma) => {
    let gamma = Math.sqrt(Math.PI);
    for (let k = 0; k < order; k++) gamma *= k + 0.5;
    return gamma / (2 * Math.PI * sigma ** (2 * order + 1));
  };

  const squares = (samples) => samples.reduce((sum, value) => sum + value * value, 0);

  // How far the samples are from the function in the same window, and the share of its energy outside it. Integrals are
  // sums over a grid that is `dense` times as fine.
  const errors = (shape, size) => {
    const dense = Math.min(Math.max(Math.ceil(2 / Math.min(shape.sigma1, shape.sigma2)), 4), 64);
    const wide = { ...shape };
    for (const length of ["sigma1", "sigma2", "mu1", "mu2"]) wide[length] *= dense;
    const fine = kernel(wide, size * dense);
    const expected = moments(fine, wide, size * dense);
    const sampling = moments(kernel(shape, size), shape, size).map((moment, k) => Math.abs(moment - expected[k]));
    const whole = energy(shape.p, wide.sigma1) * energy(shape.q, wide.sigma2);
    return { sampling: Math.max(...sampling), truncation: Math.max(0, 1 - squares(fine) / whole) };
  };

  // |Σ φ(x, y) exp(-2πi (f x + h y))| at points² frequencies f, h = -1/2, ..., 1/2 - 1/points per pixel, h along rows
  const spectrum = (samples, size, points) => {
    const waves = (part) =>
      Array.from({ length: points }, (_, k) =>
        Float64Array.from({ length: size }, (_, n) => part(2 * Math.PI * (k / points - 0.5) * n)),
      );
    const [cos, sin] = [waves(Math.cos), waves(Math.sin)];
    const magnitudes = new Float64Array(points * points);
    for (let f = 0; f < points; f++) {
      const real = new Float64Array(size);
      const imaginary = new Float64Array(size);
      for (let row = 0; row < size; row++) {
        for (let column = 0; column < size; column++) {
          real[row] += samples[row * size + column] * cos[f][column];
          imaginary[row] -= samples[row * size + column] * sin[f][column];
        }
      }
      for (let h = 0; h < points; h++) {
        let [re, im] = [0, 0];
        for (let row = 0; row < size; row++) {
          re += real[row] * cos[h][row] + imaginary[row] * sin[h][row];
          im += imaginary[row] * cos[h][row] - real[row] * sin[h][row];
        }
        magnitudes[h * points + f] = Math.hypot(re, im);
      }
    }
    return magnitudes;
  };

  // The image, rows × columns, correlated with a kernel; as large as the image, whose border pixels go on outside.
  const correlate = (image, rows, columns, samples, size) => {
    const before = Math.floor((size - 1) / 2);
    const wide = columns + size - 1;
    const padded = new Float64Array((rows + size - 1) * wide);
    const inside = (place, length) => Math.min(Math.max(place - before, 0), length - 1);
    for (let row = 0, index = 0; row < rows + size - 1; row++) {
      for (let column = 0; column < wide; column++, index++) {
        padded[index] = image[inside(row, rows) * columns + inside(column, columns)];
      }
    }
    const response = new Float64Array(rows * columns);
    for (let i = 0; i < size; i++) {
      for (let j = 0; j < size; j++) {
        const weight = samples[i * size + j];
        for (let row = 0; row < rows; row++) {
          const from = (row + i) * wide + j;
          const to = row * columns;
          for (let column = 0; column < columns; column++) response[to + column] += weight * padded[from + column];
        }
      }
    }
    return response;
  };

  // All p + q ≤ K with one isotropic scale of one pixel, in the package's order
  const jet = (highest) => {
    const shapes = [];
    for (let total = 0; total <= highest; total++) {
      for (let p = 0; p <= total; p++) {
        shapes.push({ p, q: total - p, sigma1: 1, sigma2: 1, mu1: 0, mu2: 0, theta: 0 });
      }
    }
    return shapes;
  };

  const scaled = (shape, scale) => {
    const larger = { ...shape };
    for (const length of ["sigma1", "sigma2", "mu1", "mu2"]) larger[length] *= scale;
    return larger;
  };

  // Σ ω_n φ_n with ω_n = c_n / ‖φ_n‖
  const mixture = (kernels, shares) => {
    const filter = new Float64Array(kernels[0].length);
    kernels.forEach((samples, n) => {
      const norm = Math.sqrt(squares(samples));
      if (shares[n] && norm) samples.forEach((value, k) => (filter[k] += (shares[n] / norm) * value));
    });
    return filter;
  };

  return { profile, kernel, errors, spectrum, correlate, jet, scaled, mixture };
})();
