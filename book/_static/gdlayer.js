// What every page needs so that nothing is cut: wide tables reach into the margin, what still scrolls says so, and the
// cells of claims carry the names of their columns for narrow windows, where each claim is a card.
{
  const main = document.querySelector("main");
  const scrollers = () => [...main.querySelectorAll(".output, .pst-scrollable-table-container, mjx-container")];
  const hidden = (element) => element.scrollWidth - element.clientWidth - element.scrollLeft > 1;

  for (const table of main.querySelectorAll("table.claims")) {
    const names = [...table.tHead.rows[0].cells].map((cell) => cell.textContent);
    for (const row of table.tBodies[0].rows) {
      for (const cell of row.cells) cell.dataset.column = names[cell.cellIndex];
    }
  }

  for (const output of main.querySelectorAll(".output:has(table)")) {
    if (hidden(output)) output.classList.add("full-width");
  }

  const sign = (element) => {
    element.classList.toggle("more-right", hidden(element));
    if (element.scrollWidth > element.clientWidth) element.tabIndex = 0; // arrow keys scroll it
  };
  const watch = () => {
    const sizes = new ResizeObserver((entries) => entries.forEach(({ target }) => sign(target)));
    for (const element of scrollers()) {
      sizes.observe(element);
      element.addEventListener("scroll", () => sign(element), { passive: true });
    }
  };
  addEventListener("load", () => (window.MathJax?.startup?.promise ?? Promise.resolve()).then(watch));
}
