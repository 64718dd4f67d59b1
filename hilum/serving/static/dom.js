// Elements and words: every text that comes from a server or a file is set as text, never as markup.

export const byId = (id) => document.getElementById(id);

/** An element with attributes (null and false are left out, true is empty) and children (strings become text). */
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick") made.addEventListener("click", value);
    else if (value !== null && value !== false && value !== undefined) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return made;
}

/** A probability as people read it: 71 %, 3.2 %, 0.04 %. */
export function percent(chance) {
  const value = 100 * chance;
  if (value > 99.9 && chance < 1) return "> 99.9 %";
  if (value > 0 && value < 0.01) return "< 0.01 %";
  return `${value.toFixed(value >= 10 || value === 0 ? 0 : value >= 1 ? 1 : 2)} %`;
}

export const VIEWS = { PA: "PA", AP: "AP", LATERAL: "Lateral", unknown: "View not known" };

export const plural = (count, one, many = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
