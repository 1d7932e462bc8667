// What every page needs so that nothing is cut: wide tables reach into the margin, what still scrolls says so, and in
// tables of sentences each cell carries the name of its column, for narrow windows, where each row is a card. Figures
// that are drawn as SVG can be saved.
{
  const SENTENCE = 60; // characters; a cell with more makes its table one of sentences
  const main = document.querySelector("main");
  const TABLES = ".pst-scrollable-table-container";
  const hidden = (element) => element.scrollWidth - element.clientWidth - element.scrollLeft > 1;

  for (const table of main.querySelectorAll("table:has(thead)")) {
    const cells = [...table.tBodies].flatMap((body) => [...body.rows]).flatMap((row) => [...row.cells]);
    if (!cells.some((cell) => cell.textContent.length > SENTENCE)) continue;
    const names = [...table.tHead.rows[0].cells].map((cell) => cell.textContent);
    table.classList.add("cards");
    for (const cell of cells) cell.dataset.column = names[cell.cellIndex];
  }

  for (const table of main.querySelectorAll(".output table")) {
    if (table.closest(TABLES)) continue;
    const container = document.createElement("div");
    container.className = TABLES.slice(1);
    table.replaceWith(container);
    container.append(table);
    if (hidden(container)) container.classList.add("full-width");
  }

  for (const figure of main.querySelectorAll("figure:has(img[src$='.svg'])")) {
    const link = document.createElement("a");
    link.href = figure.querySelector("img").src;
    link.download = `${figure.id}.svg`;
    link.textContent = link.download;
    figure.querySelector("figcaption p").append(" To save: ", link, ".");
  }

  const sign = (element) => {
    element.classList.toggle("more-right", hidden(element));
    if (hidden(element)) element.tabIndex = 0; // arrow keys scroll it
  };
  const watch = () => {
    const sizes = new ResizeObserver((entries) => entries.forEach(({ target }) => sign(target)));
    for (const element of main.querySelectorAll(`${TABLES}, div.math mjx-container, span.math, pre`)) {
      sizes.observe(element);
      element.addEventListener("scroll", () => sign(element), { passive: true });
    }
  };
  addEventListener("load", () => (window.MathJax?.startup?.promise ?? Promise.resolve()).then(watch));
}
