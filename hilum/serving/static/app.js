// The reading room: files in, one study at a time; what it answers is shown, and kept in this window's memory alone.

import { Problem, explain, predict, useKey } from "./api.js";
import { byId, el, percent, plural } from "./dom.js";
import { Film, heatOf, hung } from "./film.js";
import { findingsOf, margin } from "./findings.js";
import { offerNames } from "./own.js";

const KEPT = 20; // earlier studies
const study = { files: [], views: [] };
const earlier = [];
let films = [];
let answer = null;
let shown = null; // the button of the finding whose map is laid
let waiting = new AbortController(); // of the study that is being read or called back
let looking = new AbortController(); // of the map that is being made

const state = (name) => {
  document.body.dataset.state = name;
  for (const id of ["print", "save"]) byId(id).hidden = name !== "answer";
  byId("new").hidden = name === "empty";
  byId("add").hidden = ["empty", "problem"].includes(name);
  byId("help").hidden = name === "empty" || !films.length;
};
const say = (text) => {
  byId("status").textContent = text;
};

function facts() {
  const own = byId("own")?.value.trim();
  return { files: [...study.files], views: [...study.views], age: byId("age").value, sex: byId("sex").value, own };
}

/** Another study begins: nothing that is still under way may come after it. */
function fresh() {
  waiting.abort();
  looking.abort();
  waiting = new AbortController();
  for (const id of ["problem", "again"]) byId(id).hidden = true;
  byId("own")?.removeAttribute("aria-invalid");
  return waiting.signal;
}

async function read() {
  const signal = fresh();
  const asked = facts();
  state("busy");
  say(`Reading ${plural(asked.files.length, "image")} …`);
  try {
    const told = await predict(asked, signal);
    told.read_at = new Date().toLocaleTimeString("en-GB");
    await show(told, asked, signal);
    remember(told, asked);
  } catch (error) {
    if (error.name !== "AbortError") tell(error, read);
  }
}

async function show(told, asked, signal) {
  const made = hung(told.images).map((image) => new Film(image, (view) => changeView(image.file_index, view)));
  await Promise.all(made.filter((film) => film.image.png).map((film) => film.load()));
  if (signal.aborted) return;
  looking.abort(); // for the films that go
  [films, answer, shown] = [made, { ...told, asked, maps: {} }, null];
  byId("heat").hidden = true;
  const box = byId("lightbox");
  box.replaceChildren(...films.map((film) => film.node));
  box.classList.toggle("one", films.length === 1);
  byId("result").replaceChildren(...findingsOf(told, toggle).filter(Boolean));
  state("answer");
  const above = told.findings.filter((each) => each.positive).length;
  say(told.in_distribution === false ? "Read, with a warning." : `Read: ${plural(above, "finding")} above the operating point.`);
}

async function toggle(name, asking) {
  if (shown === asking) return hide();
  const { asked, maps } = answer;
  looking.abort();
  looking = new AbortController();
  const { signal } = looking;
  byId("problem").hidden = true;
  say(`Looking where ${name} is seen …`);
  asking.disabled = true;
  try {
    maps[name] ??= (await explain(asked, name, signal)).maps;
    const mapOf = (film) => maps[name].find((map) => map.file_index === film.image.file_index);
    const decoded = await Promise.all(films.map((film) => heatOf(mapOf(film))));
    if (signal.aborted) return;
    hide();
    films.forEach((film, place) => film.lay(mapOf(film), decoded[place]));
    for (const film of films) film.opacity(byId("opacity").value / 100);
    byId("heat-name").textContent = name;
    byId("heat-method").textContent = METHODS[maps[name][0]?.method] ?? maps[name][0]?.method ?? "";
    byId("heat").hidden = false;
    asking.setAttribute("aria-pressed", "true");
    shown = asking;
    say(""); // the words stand under the images, and are read out there
  } catch (error) {
    if (error.name !== "AbortError") tell(error, () => toggle(name, asking));
  } finally {
    asking.disabled = false;
    if (document.activeElement === document.body) asking.focus();
  }
}

const METHODS = {
  cells: "by covering cells of the feature map",
  occlusion: "by covering parts of the image",
  attention: "attention of the head",
  gradcam: "Grad-CAM++",
};

function hide() {
  for (const film of films) film.lay(null);
  shown?.setAttribute("aria-pressed", "false");
  shown = null;
  byId("heat").hidden = true;
  say("");
}

function tell(error, retry) {
  const problem = error instanceof Problem ? error : new Problem(0, "page", "This page failed. Reload it and try again.");
  const one = (problem.index ?? null) !== null && study.files.length > 1;
  const which = one ? `File ${problem.index + 1}: ` : "";
  const wait = problem.wait ? ` The server asks to wait ${plural(problem.wait, "second")}.` : "";
  const parts = [el("p", {}, el("strong", {}, which), problem.message, wait)];
  const passing = [0, 408, 429, 500, 502, 503, 504].includes(problem.status);
  const worded = ["unknown-finding", "closed-vocabulary", "bad-field"].includes(problem.code); // can be mended; the images stay
  byId("own")?.setAttribute("aria-invalid", worded);
  byId("again").hidden &&= !worded;
  if (problem.status === 401) parts.push(...keyField(retry));
  else if (passing && study.files.length) parts.push(button("Try again", retry));
  else if (one) parts.push(button("Read without it", () => leaveOut(problem.index)));
  else if (study.files.length === 1 && !worded && !answer) Object.assign(study, { files: [], views: [] });
  byId("problem").replaceChildren(...parts);
  byId("problem").hidden = false;
  state(answer && problem.status !== 401 && films.length ? "answer" : "problem");
  say("");
}

const button = (text, onclick) => el("button", { type: "button", onclick }, text);

function leaveOut(index) {
  study.files.splice(index, 1);
  study.views.splice(index, 1);
  read();
}

function keyField(retry) {
  const field = el("input", { type: "password", id: "key", autocomplete: "off" });
  const label = el("label", { for: "key" }, "Key of this server");
  const form = el("form", { class: "row" }, label, field, el("button", { type: "submit" }, "Use it"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    useKey(field.value);
    retry();
  });
  return [form];
}

function remember(told, asked) {
  earlier.unshift({ told, asked });
  earlier.length = Math.min(earlier.length, KEPT);
  list();
}

function list() {
  byId("earlier").hidden = !earlier.length;
  byId("earlier-list").replaceChildren(
    ...earlier.map(({ told, asked }) => {
      const most = told.findings.filter((each) => !each.zero_shot).sort((a, b) => margin(b) - margin(a))[0];
      const found = most ? `${most.name} ${percent(most.probability)}` : "";
      const said = told.in_distribution === false ? "unlike the training images" : found;
      const back = () => {
        Object.assign(study, { files: [...asked.files], views: [...asked.views] });
        byId("age").value = asked.age;
        byId("sex").value = asked.sex;
        if (byId("own")) byId("own").value = asked.own;
        show(told, asked, fresh());
      };
      return el("li", {}, button(`${told.read_at} · ${plural(asked.files.length, "image")} · ${said}`, back));
    }),
  );
}

function add(files) {
  if (!files.length) return;
  if (document.body.dataset.state === "problem") Object.assign(study, { files: [], views: [] }); // "the images of one study"
  study.files.push(...files);
  study.views.push(...Array(files.length).fill(""));
  read();
}

function changeView(index, view) {
  study.views[index] = view;
  dirty();
}

const dirty = () => {
  byId("again").hidden = !study.files.length;
};

function begin() {
  fresh();
  Object.assign(study, { files: [], views: [] });
  [films, answer, shown] = [[], null, null];
  for (const id of ["lightbox", "result"]) byId(id).replaceChildren();
  byId("heat").hidden = true;
  byId("facts").reset();
  say("");
  state("empty");
  byId("files").focus();
}

function save() {
  const { asked, maps, ...told } = answer;
  const plain = { ...told, images: told.images.map(({ png, ...image }) => image) };
  const text = new Blob([JSON.stringify(plain, null, 1)], { type: "application/json" });
  const link = el("a", { href: URL.createObjectURL(text), download: `hilum-${told.request_id}.json` });
  link.click();
  URL.revokeObjectURL(link.href);
}

byId("files").addEventListener("change", (event) => {
  add([...event.target.files]);
  event.target.value = "";
});
byId("add").addEventListener("click", () => byId("files").click());
byId("facts").addEventListener("submit", (event) => {
  event.preventDefault();
  if (study.files.length) read();
});
byId("facts").addEventListener("input", dirty);
byId("new").addEventListener("click", begin);
byId("print").addEventListener("click", () => window.print());
byId("save").addEventListener("click", save);
byId("heat-off").addEventListener("click", () => {
  const asked = shown;
  hide();
  asked?.focus();
});
byId("opacity").addEventListener("input", (event) => {
  for (const film of films) film.opacity(event.target.value / 100);
});
byId("forget").addEventListener("click", () => {
  earlier.length = 0;
  list();
});
let over = 0; // drag events come for every element under way
const carries = (event) => event.dataTransfer?.types.includes("Files");
const drags = {
  dragenter: () => (over += 1),
  dragleave: () => (over = Math.max(0, over - 1)),
  dragover: () => {},
  drop: (event) => {
    over = 0;
    add([...event.dataTransfer.files]);
  },
};
for (const [name, act] of Object.entries(drags)) {
  window.addEventListener(name, (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    act(event);
    document.body.classList.toggle("over", over > 0);
  });
}
window.addEventListener("beforeprint", () => {
  for (const each of document.querySelectorAll("#result details.group")) each.open = true;
});
offerNames(byId("own"), byId("askable"));
