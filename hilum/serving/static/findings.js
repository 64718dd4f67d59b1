// The findings of an answer: sorted by how far each lies from its operating point, with what there is to know of it.

import { VIEWS, el, percent, plural } from "./dom.js";

const WIDEST = 4; // log odds from the operating point to either end of a bar
const TIERS = { head: "frequent in training", medium: "less frequent in training", tail: "rare in training" };

/** Distance in log odds from the operating point; without one, from even odds. */
export function margin({ probability, threshold }) {
  const odds = (chance) => Math.log(Math.min(1 - 1e-9, Math.max(1e-9, chance)) / (1 - Math.min(1 - 1e-9, Math.max(1e-9, chance))));
  return odds(probability) - odds(threshold ?? 0.5);
}

/** answer -> nodes: the warning first where the images are unlike the training images; show(name, button) asks for a map. */
export function findingsOf(answer, show) {
  const known = answer.findings.filter((each) => each.threshold !== null).sort((a, b) => margin(b) - margin(a));
  const free = answer.findings.filter((each) => each.threshold === null).sort((a, b) => b.probability - a.probability);
  const above = known.filter((each) => each.positive);
  const below = known.filter((each) => !each.positive);
  const list = (findings) => el("ul", {}, findings.map((each) => one(each, answer, show)));
  const body = el(
    "div",
    { class: "groups" },
    known.length ? el("p", { class: "quiet" }, "The mark in each bar is the finding's operating point; the bar is how far its odds lie from it.") : null,
    el(
      "section",
      { class: "group" },
      el("h3", {}, above.length ? `${plural(above.length, "finding")} above the operating point` : "No finding lies above its operating point"),
      list(above),
    ),
    free.length ? el("section", { class: "group" }, el("h3", {}, `${plural(free.length, "finding")} without an operating point`), list(free)) : null,
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
  const said = threshold === null ? "no operating point" : `${positive ? "above" : "below"} its operating point ${percent(threshold)}`;
  const told = [said, TIERS[finding.tier], finding.zero_shot ? "zero-shot" : null].filter(Boolean).join(" · ");
  return el(
    "li",
    { class: `finding${positive ? " above" : ""}` },
    el(
      "div",
      { class: "top" },
      el("span", { class: "name" }, name),
      el("span", { class: "chance" }, percent(probability)),
      el("button", { type: "button", "aria-pressed": "false", "aria-label": `Show where: ${name}`, "data-finding": name, onclick: (event) => show(name, event.currentTarget) }, "Where"),
    ),
    threshold === null ? null : el("div", { class: "scale", "aria-hidden": "true" }, bar),
    el("details", {}, el("summary", {}, told, el("span", { class: "hushed" }, `: more about ${name}`)), facts(finding, answer)),
  );
}

function facts(finding, answer) {
  const rows = [];
  const alone = (finding.views ?? []).map((chance, index) => ({ chance, index })).filter(({ chance }) => chance !== null);
  if (alone.length > 1) {
    const told = alone.map(({ chance, index }) => `image ${index + 1} (${VIEWS[answer.images[index].view]}) ${percent(chance)}`);
    const [most] = alone.toSorted((a, b) => b.chance - a.chance);
    rows.push(["Each image read alone", told.join(", ")], ["Speaks for it most", `image ${most.index + 1}`]);
  }
  if (finding.training_known) {
    const share = finding.training_positives / finding.training_known;
    rows.push(["In training", `${finding.training_positives.toLocaleString("en")} of ${plural(finding.training_known, "known study", "known studies")} (${percent(share)})`]);
  }
  const measured = finding.reliability;
  const names = { ap: "average precision", auroc: "AUROC", ece: "calibration error", f1: "F1", sensitivity: "sensitivity", specificity: "specificity" };
  if (measured) for (const [key, label] of Object.entries(names)) if (measured[key] !== null && measured[key] !== undefined) rows.push([label, interval(measured[key])]);
  if (measured) rows.push(["Measured on", `${measured.positives.toLocaleString("en")} positives among ${plural(measured.known, "known study", "known studies")}. ${measured.measured_on ?? ""}`]);
  if (!measured) rows.push(["Reliability", "not measured"]);
  return el("dl", {}, rows.map(([term, value]) => [el("dt", {}, term), el("dd", {}, value)]));
}

const interval = (value) =>
  Array.isArray(value) ? `${value[0].toFixed(2)} [${value[1]?.toFixed(2)}, ${value[2]?.toFixed(2)}]` : Number(value).toFixed(2);

function warning(answer, body) {
  if (answer.in_distribution === null || answer.in_distribution === undefined)
    return el("p", { class: "quiet" }, "This model cannot tell whether these images resemble those it was trained on.");
  if (answer.in_distribution) return null;
  body.hidden = true;
  const box = el(
    "section",
    { class: "warning", "aria-label": "Warning" },
    el("h3", {}, "These images are unlike those the model was trained on"),
    el("ul", {}, (answer.distribution?.reasons ?? []).map((reason) => el("li", {}, reason))),
    el("p", {}, "What it says of them may mean nothing."),
    el("button", { type: "button", onclick: (event) => { body.hidden = false; event.currentTarget.remove(); body.querySelector("button")?.focus(); } }, "Show the findings all the same"),
  );
  return box;
}

const unknown = ({ unknown: parts }) => (parts?.length ? el("p", { class: "quiet" }, `Not known to the model: ${parts.join(", ")}.`) : null);

function provenance(answer) {
  const { model } = answer;
  const rows = [
    ["Model", model.identity?.slice(0, 12)],
    ["Operating points", model.calibration?.slice(0, 12)],
    ["Engine", model.engine],
    ["hilum", model.hilum_version],
    ["Request", answer.request_id],
    ["Read", answer.read_at],
  ].filter(([, value]) => value);
  return el("section", { class: "provenance", "aria-label": "Where this answer comes from" }, model.note ? el("p", {}, model.note) : null,
    el("dl", {}, rows.map(([term, value]) => [el("dt", {}, term), el("dd", {}, el("code", {}, value))])));
}
