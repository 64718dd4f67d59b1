// The findings of an answer: sorted by how far each lies from its operating point, with what there is to know of it.

import { VIEWS, el, percent, plural } from "./dom.js";

const WIDEST = 4; // log odds from the operating point to either end of a bar
const TIERS = { head: "frequent in training", medium: "less frequent in training", tail: "rare in training" };
const MEASURES = {
  ap: "average precision",
  auroc: "AUROC",
  f1: "F1",
  sensitivity: "sensitivity",
  specificity: "specificity",
  ece: "calibration error",
};

const quiet = (text) => el("p", { class: "quiet" }, text);
const terms = (rows, shown = (value) => value) => el("dl", {}, rows.map(([term, value]) => [el("dt", {}, term), el("dd", {}, shown(value))]));

/** Distance in log odds from the operating point; without one, from even odds. */
export function margin({ probability, threshold }) {
  const odds = (chance) => {
    const inside = Math.min(1 - 1e-9, Math.max(1e-9, chance));
    return Math.log(inside / (1 - inside));
  };
  return odds(probability) - odds(threshold ?? 0.5);
}

/** answer -> nodes: the warning first where the images are unlike the training images; show(name, button) asks for a map. */
export function findingsOf(answer, show) {
  const known = answer.findings.filter((each) => each.threshold !== null).sort((a, b) => margin(b) - margin(a));
  const others = answer.findings.filter((each) => each.threshold === null).sort((a, b) => b.probability - a.probability);
  const free = others.filter((each) => !each.zero_shot);
  const own = others.filter((each) => each.zero_shot);
  const above = known.filter((each) => each.positive);
  const below = known.filter((each) => !each.positive);
  const list = (findings) => el("ul", {}, findings.map((each) => one(each, answer, show)));
  const group = (title, findings) => el("section", { class: "group" }, el("h3", {}, title), list(findings));
  const body = el(
    "div",
    { class: "groups" },
    quiet("The mark in each bar is the finding's operating point; the bar is how far its odds lie from it."),
    answer.model.calibration ? null : quiet("These probabilities are not calibrated: compare them with the operating points alone."),
    above.length
      ? group(`${plural(above.length, "finding")} above the operating point`, above)
      : group("No finding lies above its operating point", []),
    free.length ? group(`${plural(free.length, "finding")} without an operating point`, free) : null,
    own.length ? group("Asked by name, never trained on: an order, not a probability", own) : null,
    below.length
      ? el("details", { class: "group", open: !above.length && !free.length }, el("summary", {}, `${plural(below.length, "finding")} below`), list(below))
      : null,
  );
  return [warning(answer, body), unknown(answer), body, provenance(answer)];
}

function one(finding, answer, show) {
  const { name, probability, threshold, positive } = finding;
  const distance = Math.max(-WIDEST, Math.min(WIDEST, margin(finding))) / (2 * WIDEST);
  const bar = el("i");
  bar.style.setProperty("--from", `${50 + 100 * Math.min(0, distance)}%`);
  bar.style.setProperty("--long", `${100 * Math.abs(distance)}%`);
  const where = {
    type: "button",
    "aria-pressed": "false",
    "aria-label": `Show where: ${name}`,
    "data-finding": name,
    onclick: (event) => show(name, event.currentTarget),
  };
  const point = threshold === null ? "no operating point" : `${positive ? "above" : "below"} its operating point ${percent(threshold)}`;
  const told = [point, TIERS[finding.tier], finding.zero_shot ? "zero-shot" : null].filter(Boolean).join(" · ");
  return el(
    "li",
    { class: `finding${positive ? " above" : ""}` },
    el("div", { class: "top" }, el("span", { class: "name" }, name), el("span", { class: "chance" }, finding.zero_shot ? score(probability) : percent(probability)), el("button", where, "Where")),
    threshold === null ? null : el("div", { class: "scale", "aria-hidden": "true" }, bar),
    el("details", {}, el("summary", {}, told, el("span", { class: "hushed" }, `: more about ${name}`)), terms(facts(finding, answer))),
  );
}

/** What there is to know of a finding, as pairs of words. */
function facts(finding, answer) {
  const rows = [];
  const alone = (finding.views ?? []).map((chance, place) => ({ chance, image: answer.images[place] })).filter(({ chance }) => chance !== null);
  if (alone.length > 1) {
    const told = alone.map(({ chance, image }) => `image ${image.file_index + 1} (${VIEWS[image.view]}) ${percent(chance)}`);
    const [most] = alone.toSorted((a, b) => b.chance - a.chance);
    rows.push(["Each image read alone", told.join(", ")], ["Speaks for it most", `image ${most.image.file_index + 1}`]);
  }
  if (finding.training_known) {
    const { training_positives: positives, training_known: known } = finding;
    rows.push(["In training", `${positives.toLocaleString("en")} of ${studies(known)} (${percent(positives / known)})`]);
  }
  const measured = finding.reliability;
  if (!measured) return [...rows, ["Reliability", "not measured"]];
  const given = Object.entries(MEASURES).filter(([key]) => Number.isFinite([measured[key]].flat()[0]));
  if (given.length) rows.push(...given.map(([key, label]) => [label, interval(measured[key])]));
  else rows.push(["Reliability", "too few positives or negatives to be measured"]);
  rows.push(["Measured on", `${plural(measured.positives, "positive")} among ${studies(measured.known)}. ${measured.measured_on}`]);
  return rows;
}

const score = (value) => (value < 0.001 ? "< 0.001" : value.toFixed(3));

const studies = (count) => plural(count, "known study", "known studies");

/** A measure, alone or with the ends of its 95 % interval. */
const interval = (value) => {
  const [middle, low, high] = [value].flat();
  return middle.toFixed(2) + (Number.isFinite(low) ? ` (95 %: ${low.toFixed(2)} to ${high.toFixed(2)})` : "");
};

function warning(answer, body) {
  if (answer.in_distribution) return null;
  if (answer.in_distribution !== false) return quiet("This model cannot tell whether these images resemble those it was trained on.");
  body.hidden = true;
  const reveal = (event) => {
    body.hidden = false;
    event.currentTarget.remove();
    body.querySelector("button")?.focus();
  };
  return el(
    "section",
    { class: "warning", "aria-label": "Warning" },
    el("h3", {}, "These images are unlike those the model was trained on"),
    el("ul", {}, (answer.distribution?.reasons ?? []).map((reason) => el("li", {}, reason))),
    el("p", {}, "What it says of them may mean nothing."),
    el("button", { type: "button", onclick: reveal }, "Show the findings all the same"),
  );
}

const unknown = ({ unknown: parts }) => (parts?.length ? quiet(`Not known to the model: ${parts.join(", ")}.`) : null);

function provenance({ model, request_id, read_at }) {
  const rows = [
    ["Model", model.identity?.slice(0, 12)],
    ["Operating points", model.calibration?.slice(0, 12)],
    ["Engine", model.engine],
    ["hilum", model.hilum_version],
    ["Request", request_id],
    ["Read", read_at],
  ].filter(([, value]) => value);
  const note = model.note ? el("p", {}, model.note) : null;
  return el("section", { class: "provenance", "aria-label": "Where this answer comes from" }, note, terms(rows, (value) => el("code", {}, value)));
}
