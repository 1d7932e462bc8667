// What is wrong with the page as it is laid out now: a list of sentences, empty if nothing is.
({ wide }) => {
  const faults = [];
  const named = (element) => {
    const text = (element.textContent || element.alt || "").trim().replace(/\s+/g, " ").slice(0, 60);
    return `<${element.tagName.toLowerCase()} class="${element.getAttribute("class") ?? ""}"> ${text}`;
  };
  const main = document.querySelector(".bd-article-container");
  const style = (element) => getComputedStyle(element);
  const scrolls = (element) => ["auto", "scroll"].includes(style(element).overflowX);

  if (document.documentElement.scrollWidth > innerWidth) {
    faults.push(`the page is ${document.documentElement.scrollWidth} px wide`);
  }

  // An element reaches beyond the window, or beyond a parent that hides what does not fit, and nothing scrolls to it.
  const cut = (element) => {
    const { left, right, width, height } = element.getBoundingClientRect();
    if (width < 2 || height < 2) return false;
    for (let parent = element.parentElement; parent !== main.parentElement; parent = parent.parentElement) {
      const { overflowX, clip, position } = style(parent);
      if (["auto", "scroll"].includes(overflowX) || (position === "absolute" && clip !== "auto")) return false;
      const box = parent.getBoundingClientRect();
      if (overflowX !== "visible" && (left < box.left - 1 || right > box.right + 1)) return true;
    }
    return left < -1 || right > innerWidth + 1;
  };
  const whole = new Set();
  for (const element of main.querySelectorAll(":not(pre *, mjx-container *, svg *)")) {
    if (whole.has(element.parentElement)) whole.add(element); // named once
    else if (cut(element)) {
      whole.add(element);
      faults.push(`cut: ${named(element)}`);
    }
  }

  // What scrolls shows that there is more; on a wide window no display has to.
  for (const element of main.querySelectorAll(":not(pre *, mjx-container *, svg *)")) {
    if (element.scrollWidth <= element.clientWidth + 1 || !scrolls(element) || !element.checkVisibility()) continue;
    if (wide && element.matches("mjx-container")) faults.push(`a display does not fit: ${named(element.parentElement)}`);
    if (!element.matches(".more-right")) faults.push(`scrolls without a sign: ${named(element)}`);
  }

  for (const image of document.images) {
    if (!image.alt.trim()) faults.push(`no alternative text: ${image.src.split("/").pop()}`);
    if (!image.complete || !image.naturalWidth) faults.push(`not shown: ${image.src.split("/").pop()}`);
  }
  for (const error of document.querySelectorAll("mjx-merror")) faults.push(`formula: ${named(error)}`);
  return faults;
}
