// A filter mixed from the ten kernels of one basis, and its response to the photograph.
{
  const { make, picture, paint } = explorer;
  const BASES = [gaussian.jet(3), trained.shapes];
  const share = { min: -1, max: 1, step: 0.01, value: 0 };
  const pictures = BASES[0].map(({ p, q }) => picture(`kernel (${p}, ${q})`));
  const fields = [
    { name: "basis", label: "basis", choices: ["3-jet, one scale", "trained on Fashion-MNIST"], value: 0 },
    { name: "scale", label: "scale of the basis", min: 0.5, max: 4, step: 0.1, value: 2 },
    { name: "size", label: "kernel size", unit: " px", min: 3, max: 31, step: 1, value: 15 },
    ...BASES[0].map(({ p, q }, n) => ({
      ...share,
      name: `c${p}${q}`,
      label: `(${p}, ${q})`,
      picture: pictures[n].canvas,
      value: p === 1 && q === 0 ? -1 : 0,
    })),
  ];
  const names = fields.slice(3).map((field) => field.name);

  const preset = (shares, rest = { basis: 0, scale: 2, size: 15 }) => ({
    ...rest,
    ...Object.fromEntries(names.map((name, n) => [name, Array.isArray(shares) ? shares[n] : (shares[name] ?? 0)])),
  });
  const PRESETS = {
    edge: preset({ c10: -1 }),
    line: preset({ c20: -1 }),
    corner: preset({ c10: -0.7, c01: -0.7, c11: 0.5 }),
    blob: preset({ c20: -0.7, c02: -0.7 }),
    trained: preset(trained.shares, { basis: 1, scale: 1, size: 7 }),
  };

  const filter = picture("filter");
  const response = picture("response");
  const constant = make("p", { class: "errors", role: "status" });

  const show = ({ basis, scale, size, ...shares }) => {
    const kernels = BASES[basis].map((shape) => gaussian.kernel(gaussian.scaled(shape, scale), size));
    kernels.forEach((samples, n) => paint(pictures[n].canvas, samples, size));
    const samples = gaussian.mixture(kernels, names.map((name) => shares[name]));
    paint(filter.canvas, samples, size);
    paint(response.canvas, explorer.respond(samples, size), photograph.columns);
    const sum = samples.reduce((total, value) => total + value, 0);
    constant.textContent = `Answer to a constant image of 1: ${explorer.text(sum, 3)}.`;
  };

  const root = document.getElementById("mixer-explorer");
  const { controls, reset, change } = explorer.create("mixer", fields, show);
  const buttons = Object.entries(PRESETS).map(([name, values]) => {
    const button = make("button", { type: "button" }, name);
    button.addEventListener("click", () => change(values));
    return button;
  });
  const figures = make("div", { class: "figures" }, filter.figure, response.figure, explorer.photo());
  root.append(make("div", { class: "buttons" }, ...buttons, reset), controls, constant, figures);
  explorer.recall();
}
