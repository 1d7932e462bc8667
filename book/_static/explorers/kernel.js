// One kernel: its shape, profiles, Fourier magnitude, errors of sampling, and its response to the photograph.
{
  const FREQUENCIES = 64;
  const TOLERANCE = 0.1; // that of check_derivatives
  const { make, picture, paint } = explorer;
  const length = { unit: " px", min: -5, max: 5, step: 0.1, value: 0 };
  const scale = { unit: " px", min: 0.2, max: 5, step: 0.05, value: 2 };
  const order = { min: 0, max: 4, step: 1 };
  const fields = [
    { name: "p", label: "p, order along u", ...order, value: 1 },
    { name: "q", label: "q, order along v", ...order, value: 0 },
    { name: "sigma1", label: "σ₁, scale along u", ...scale },
    { name: "sigma2", label: "σ₂, scale along v", ...scale },
    { name: "mu1", label: "μ₁, shift along u", ...length },
    { name: "mu2", label: "μ₂, shift along v", ...length },
    { name: "theta", label: "θ, angle", unit: "°", min: -180, max: 180, step: 1, value: 0 },
    { name: "size", label: "kernel size", unit: " px", min: 1, max: 31, step: 1, value: 15 },
  ];

  const kernel = picture("kernel");
  const spectrum = picture("Fourier magnitude, zero frequency in the middle, edges at half a period per pixel");
  const response = picture("response");
  const profiles = make("div");
  const errors = make("p", { class: "errors", role: "status" });

  const curve = (kind, order, sigma, mu, size, atPixels) => {
    const reach = size / 2;
    const value = (x) => gaussian.profile(x - mu, order, sigma);
    const xs = Array.from({ length: 201 }, (_, k) => (k / 100 - 1) * reach);
    const most = Math.max(...xs.map((x) => Math.abs(value(x)))) || 1;
    const pixels = atPixels ? Array.from({ length: size }, (_, k) => k - (size - 1) / 2) : [];
    const drawn = (x) => [x, Math.max(-1, Math.min(1, value(x) / most))];
    return { kind, points: xs.map(drawn), dots: pixels.map(drawn) };
  };

  const percent = (share) => `${(100 * share).toFixed(1)} %`;

  const show = ({ size, ...values }) => {
    const shape = { ...values, theta: (values.theta * Math.PI) / 180 };
    const { p, q, sigma1, sigma2, mu1, mu2, theta } = shape;
    const samples = gaussian.kernel(shape, size);
    paint(kernel.canvas, samples, size);
    paint(spectrum.canvas, gaussian.spectrum(samples, size, FREQUENCIES), FREQUENCIES);
    paint(response.canvas, explorer.respond(samples, size), photograph.columns);
    const lines = [
      curve("along-u", p, sigma1, mu1, size, theta === 0),
      curve("along-v", q, sigma2, mu2, size, theta === 0),
    ];
    profiles.innerHTML = explorer.curves(size / 2, lines);
    const { sampling, truncation } = gaussian.errors(shape, size);
    errors.textContent =
      `Sampling error ${percent(sampling)}${sampling > TOLERANCE ? ", undersampled" : ""}. ` +
      `Truncation ${percent(truncation)}${truncation > TOLERANCE ? ", truncated" : ""}.`;
  };

  const { controls, reset } = explorer.create("kernel", fields, show);
  const caption = "profiles, each with its own range: along u solid, along v dashed; dots are pixels, if θ = 0";
  const figures = make("div", { class: "figures" });
  const curves = make("figure", {}, profiles, make("figcaption", {}, caption));
  figures.append(kernel.figure, response.figure, explorer.photo(), curves, spectrum.figure);
  document.getElementById("kernel-explorer").append(controls, make("div", { class: "buttons" }, reset), errors, figures);
}
