// What the explorers are made of: sliders, whose values are kept in the address, pictures and curves.
const explorer = (() => {
  const all = [];

  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };

  const text = (number, digits) => number.toFixed(digits).replace(/^-(?=0\.?0*$)/, "").replace("-", "−");
  const decimals = (step) => (String(step).split(".")[1] ?? "").length;
  const allowed = (field, number) => {
    const within = Math.min(Math.max(number, field.min), field.max);
    const steps = Math.round((within - field.min) / field.step);
    return Number((field.min + steps * field.step).toFixed(decimals(field.step)));
  };

  // The address has every value that is not where it starts, as #kernel.p=2&kernel.sigma1=0.5
  const remember = () => {
    const state = new URLSearchParams();
    for (const { name, fields, values } of all) {
      for (const field of fields) {
        if (values[field.name] !== field.value) state.set(`${name}.${field.name}`, values[field.name]);
      }
    }
    history.replaceState(null, "", `#${state}`);
  };
  const recall = () => {
    const state = new URLSearchParams(location.hash.slice(1));
    if (location.hash.length > 1 && !location.hash.includes("=")) return; // a heading
    for (const { name, fields, set } of all) {
      const found = {};
      for (const field of fields) {
        const number = parseFloat(state.get(`${name}.${field.name}`));
        found[field.name] = Number.isFinite(number) ? allowed(field, number) : field.value;
      }
      set(found);
    }
  };
  addEventListener("hashchange", recall);

  // The sliders of an explorer. Fields are {name, label, unit, min, max, step, value}, or with choices in the place of
  // unit to step; show(values) draws.
  const create = (name, fields, show) => {
    const values = {};
    const inputs = {};
    let drawn = true;
    const set = (changed) => {
      Object.assign(values, changed);
      for (const field of fields) inputs[field.name].refresh(values[field.name]);
      if (drawn) requestAnimationFrame(() => ((drawn = true), show(values)));
      drawn = false;
    };
    const change = (changed) => {
      set(changed);
      remember();
    };
    for (const field of fields) {
      if (field.choices) Object.assign(field, { min: 0, max: field.choices.length - 1, step: 1 });
      const { min, max, step } = field;
      const input = field.choices
        ? make("select", {}, ...field.choices.map((text, index) => make("option", { value: index }, text)))
        : make("input", { type: "range", min, max, step });
      const output = make("output");
      input.name = `${name}.${field.name}`;
      input.addEventListener("input", () => change({ [field.name]: Number(input.value) }));
      const label = make("label", {}, field.picture ?? "", make("span", {}, field.label), input);
      if (!field.choices) label.append(output);
      const refresh = (value) => {
        input.value = value;
        output.value = `${text(value, decimals(step))}${field.unit ?? ""}`;
        input.setAttribute("aria-valuetext", output.value);
      };
      inputs[field.name] = { label, refresh };
    }
    const start = Object.fromEntries(fields.map((field) => [field.name, field.value]));
    const reset = make("button", { type: "button" }, "Reset");
    reset.addEventListener("click", () => change(start));
    all.push({ name, fields, values, set });
    const grid = (own) => make("div", { class: "controls" }, ...own.map((field) => inputs[field.name].label));
    const controls = make("div", {}, grid(fields.filter((f) => !f.picture)), grid(fields.filter((f) => f.picture)));
    return { controls, reset, change };
  };

  const picture = (title) => {
    const canvas = make("canvas", { role: "img", "aria-label": title });
    return { canvas, figure: make("figure", {}, canvas, make("figcaption", {}, title)) };
  };

  // Red is positive, blue negative, white zero, as in the figures of the chapters.
  const COLOURS = [[5, 48, 97], [67, 147, 195], [247, 247, 247], [214, 96, 77], [103, 0, 31]];
  const signed = (value) => {
    const place = (value + 1) * 2;
    const from = Math.min(Math.floor(place), 3);
    return COLOURS[from].map((colour, k) => colour + (place - from) * (COLOURS[from + 1][k] - colour));
  };
  const grey = (value) => [255 * value, 255 * value, 255 * value];

  const paint = (canvas, values, columns, colour = signed) => {
    const range = colour === signed ? values.reduce((most, value) => Math.max(most, Math.abs(value)), 0) || 1 : 1;
    const image = new ImageData(columns, values.length / columns);
    values.forEach((value, k) => image.data.set([...colour(value / range), 255], 4 * k));
    canvas.width = image.width;
    canvas.height = image.height;
    canvas.getContext("2d").putImageData(image, 0, 0);
  };

  // Curves [{kind, points: [[x, y], ...], dots}] with x from -reach to reach, y from -1 to 1
  const curves = (reach, lines) => {
    const [width, height] = [200, 200];
    const at = ([x, y]) => `${((x / reach + 1) * width) / 2} ${((1 - y) * (height - 12)) / 2 + 6}`;
    const path = ({ kind, points }) => `<polyline class="${kind}" points="${points.map(at).join(" ")}"/>`;
    const dots = ({ kind, dots }) =>
      dots.map((dot) => `<circle class="${kind}" r="3" cx="${at(dot).split(" ")[0]}" cy="${at(dot).split(" ")[1]}"/>`);
    const axis = `<line x1="0" x2="${width}" y1="${height / 2}" y2="${height / 2}"/>`;
    const inner = [axis, ...lines.map(path), ...lines.flatMap(dots)].join("");
    return `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="profiles">${inner}</svg>`;
  };

  const image = Float64Array.from(atob(photograph.grey), (character) => character.charCodeAt(0) / 255);
  const respond = (samples, size) => gaussian.correlate(image, photograph.rows, photograph.columns, samples, size);
  const photo = () => {
    const { canvas, figure } = picture("photograph");
    paint(canvas, image, photograph.columns, grey);
    return figure;
  };

  return { make, text, create, recall, picture, paint, curves, respond, photo };
})();
