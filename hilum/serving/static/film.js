// One image on the light box: window, zoom, inversion, side marks, and a heat map over it.

import { VIEWS } from "./dom.js";
import { painted } from "./heat.js";

const PAN = 0.06; // of the view, for one key; keys repeat
const STEP = 0.25; // of the view, for one press of a button
const CENTRE = 127.5; // with width 255 every grey is shown as it is
const FRONTAL = new Set(["PA", "AP"]);

export class Film {
  /** image: of the answer, with png; changed(view): called where another view is chosen. Its number counts files as they came. */
  constructor(image, changed) {
    this.image = image;
    const number = image.file_index + 1;
    this.node = document.getElementById("film").content.firstElementChild.cloneNode(true);
    this.find = (selector) => this.node.querySelector(selector);
    this.view = this.find(".view");
    this.picture = this.find(".picture");
    this.overlay = this.find(".overlay");
    const name = VIEWS[image.view] ?? image.view;
    this.find(".name").textContent = `${number}. ${name}`;
    this.find(".size").textContent = `${image.width} × ${image.height}${source(image)}`;
    this.find(".warnings").textContent = (image.warnings ?? []).map((code) => code.replaceAll("-", " ")).join(" · ");
    this.view.setAttribute("aria-label", `Image ${number}, ${name}. Arrow keys move, plus and minus zoom, i inverts, 0 resets.`);
    this.find(".tools").setAttribute("aria-label", `Image ${number}`);
    this.find(".width").setAttribute("aria-label", `Window width of image ${number}`);
    this.find(".centre").setAttribute("aria-label", `Window centre of image ${number}`);
    const which = this.find(".which");
    which.setAttribute("aria-label", `View of image ${number}`);
    which.value = image.view;
    which.addEventListener("change", () => changed(which.value));
    this.reset();
    this.#listen();
  }

  /** Decode the PNG of the answer and show it. */
  async load() {
    const bitmap = await decoded(this.image.png);
    this.picture.width = this.overlay.width = bitmap.width;
    this.picture.height = this.overlay.height = bitmap.height;
    this.view.style.setProperty("--shape", bitmap.width / bitmap.height);
    const canvas = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
    canvas.drawImage(bitmap, 0, 0);
    const data = canvas.getImageData(0, 0, bitmap.width, bitmap.height).data;
    this.grey = new Uint8ClampedArray(data.length / 4).map((_, index) => data[4 * index]);
    this.draw();
  }

  reset() {
    Object.assign(this, { zoom: 1, x: 0, y: 0, width: 255, centre: CENTRE, inverted: false, marked: true });
    this.draw();
  }

  /** Lay a map over the image, drawn as `heat`, with its place in words; nothing takes it away. */
  lay(map, heat) {
    const context = this.overlay.getContext("2d");
    context.clearRect(0, 0, this.overlay.width, this.overlay.height);
    this.find(".words").textContent = map ? `${map.finding}: ${map.words}` : "";
    if (heat) context.drawImage(heat, 0, 0, this.overlay.width, this.overlay.height);
  }

  opacity(share) {
    this.overlay.style.opacity = share;
  }

  draw() {
    this.find(".width").value = this.width;
    this.find(".centre").value = this.centre;
    this.find('[data-do="invert"]').setAttribute("aria-pressed", this.inverted);
    this.find('[data-do="marks"]').setAttribute("aria-pressed", this.marked);
    const marked = this.marked && FRONTAL.has(this.image.view);
    for (const side of this.node.querySelectorAll(".side")) side.hidden = !marked;
    this.find('[data-do="marks"]').hidden = !FRONTAL.has(this.image.view);
    this.view.classList.toggle("zoomed", this.zoom > 1);
    this.find(".pan").hidden = this.zoom === 1;
    const moved = `translate(${100 * this.x}%, ${100 * this.y}%) scale(${this.zoom})`;
    this.picture.style.transform = this.overlay.style.transform = moved;
    if (!this.grey || this.shown === `${this.width} ${this.centre} ${this.inverted}`) return;
    this.shown = `${this.width} ${this.centre} ${this.inverted}`;
    const low = this.centre - this.width / 2;
    const table = Uint8ClampedArray.from({ length: 256 }, (_, value) => {
      const shown = (255 * (value - low)) / this.width;
      return this.inverted ? 255 - shown : shown;
    });
    const context = this.picture.getContext("2d");
    const frame = context.createImageData(this.picture.width, this.picture.height);
    const pixels = new Uint32Array(frame.data.buffer);
    for (let index = 0; index < this.grey.length; index += 1) pixels[index] = 0xff000000 | (table[this.grey[index]] * 0x010101);
    context.putImageData(frame, 0, 0);
  }

  /** Change some of zoom, x, y, width, centre, inverted, marked, within their bounds. */
  set(change) {
    Object.assign(this, change);
    const within = (value, low, high) => Math.min(high, Math.max(low, value));
    this.zoom = within(this.zoom, 1, 12);
    const reach = (this.zoom - 1) / 2 + (this.zoom > 1 ? 0.25 : 0);
    this.x = within(this.x, -reach, reach);
    this.y = within(this.y, -reach, reach);
    this.width = within(this.width, 8, 255);
    this.centre = within(this.centre, 0.5, 254.5);
    this.draw();
  }

  /** Zoom by a factor about a point of the view, (0, 0) in its middle. */
  nearer(factor, x = 0, y = 0) {
    const zoom = Math.min(12, Math.max(1, this.zoom * factor));
    const grown = zoom / this.zoom;
    this.set({ zoom, x: x - (x - this.x) * grown, y: y - (y - this.y) * grown });
  }

  #listen() {
    const moved = (right, down) => () => this.set({ x: this.x - right, y: this.y - down });
    const acts = {
      in: () => this.nearer(1.4),
      out: () => this.nearer(1 / 1.4),
      invert: () => this.set({ inverted: !this.inverted }),
      marks: () => this.set({ marked: !this.marked }),
      reset: () => this.reset(),
      left: moved(-STEP, 0),
      right: moved(STEP, 0),
      up: moved(0, -STEP),
      down: moved(0, STEP),
    };
    for (const button of this.node.querySelectorAll("[data-do]")) button.addEventListener("click", acts[button.dataset.do]);
    this.find(".width").addEventListener("input", (event) => this.set({ width: Number(event.target.value) }));
    this.find(".centre").addEventListener("input", (event) => this.set({ centre: Number(event.target.value) }));
    const keys = {
      ArrowLeft: moved(-PAN, 0),
      ArrowRight: moved(PAN, 0),
      ArrowUp: moved(0, -PAN),
      ArrowDown: moved(0, PAN),
      "+": acts.in,
      "=": acts.in,
      "-": acts.out,
      i: acts.invert,
      m: acts.marks,
      0: acts.reset,
      "[": () => this.set({ width: this.width - 8 }),
      "]": () => this.set({ width: this.width + 8 }),
      ";": () => this.set({ centre: this.centre - 8 }),
      "'": () => this.set({ centre: this.centre + 8 }),
    };
    this.view.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || !keys[event.key]) return;
      if (event.key.startsWith("Arrow") && this.zoom === 1) return; // nothing to move: the page scrolls
      event.preventDefault();
      keys[event.key]();
    });
    this.view.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    this.view.addEventListener("pointerdown", (event) => this.#drag(event));
    this.view.addEventListener("contextmenu", (event) => event.preventDefault());
  }

  #wheel(event) {
    if (document.activeElement !== this.view && !event.ctrlKey) return; // a wheel over an image that nobody chose scrolls
    event.preventDefault();
    const box = this.view.getBoundingClientRect();
    const [x, y] = [(event.clientX - box.left) / box.width - 0.5, (event.clientY - box.top) / box.height - 0.5];
    this.nearer(Math.exp(-event.deltaY / 400), x, y);
  }

  #drag(start) {
    if (start.pointerType === "touch" && this.zoom === 1) return;
    const box = this.view.getBoundingClientRect();
    const { x, y, width, centre } = this;
    const windowing = start.shiftKey || start.button === 2;
    this.view.setPointerCapture(start.pointerId);
    const move = (event) => {
      const [right, down] = [(event.clientX - start.clientX) / box.width, (event.clientY - start.clientY) / box.height];
      this.set(windowing ? { width: width + 255 * right, centre: centre + 255 * down } : { x: x + right, y: y + down });
    };
    const end = new AbortController();
    this.view.addEventListener("pointermove", move, { signal: end.signal });
    for (const name of ["pointerup", "pointercancel"]) this.view.addEventListener(name, () => end.abort(), { signal: end.signal });
  }
}

/** Frontal before lateral, PA before AP: the order in which radiologists hang them. */
export const hung = (images) => {
  const place = { PA: 0, AP: 1, unknown: 2, LATERAL: 3 };
  return [...images].sort((a, b) => place[a.view] - place[b.view] || a.file_index - b.file_index);
};

function source({ view, view_source: from }) {
  const said = { header: "view from the header", given: "view as given", classifier: "view as a classifier sees it" };
  return view === "unknown" || !said[from] ? "" : ` · ${said[from]}`;
}

/** The coloured picture of a map of the answer, null of none. */
export const heatOf = async (map) => (map ? painted(await decoded(map.png)) : null);

const decoded = (base64) =>
  createImageBitmap(new Blob([Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0))], { type: "image/png" }));
