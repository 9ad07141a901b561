// Who holds which layers: a line for each time that an activation goes round the ring.

import { el } from "./dom.js";
import { counted, layers } from "./format.js";

/** Colours there are; a ninth device has the first one's again, and always its name. */
const COLOURS = 8;

export function colour(index) {
  return `device-${index % COLOURS}`;
}

/** A line for each segment of the plan. */
export function picture(plan) {
  const lines = [];
  for (let segment = 0; segment < plan.segments; segment += 1) lines.push(line(plan, segment));
  return el("div", { class: "segments" }, ...lines);
}

function line(plan, segment) {
  const held = plan.devices.map((device, index) => ({ device, index, range: device.ranges[segment] ?? [0, 0] }));
  const parts = held.filter(({ range }) => range[1] > range[0]);
  const words = parts.map(({ device, range }) => `${device.name} layers ${layers(range)}`).join(", then ");
  const name = plan.segments === 1 ? "Every token" : `Round ${segment + 1}`;
  const ends = [];
  if (segment === 0) ends.push(end(plan, "embedding", "E", "Embedding"));
  const tail = segment === plan.segments - 1 ? [end(plan, "head", "H", "Head")] : [];
  const row = el("div", { class: "segment-line", role: "img", "aria-label": `${name}: ${words || "nothing"}` });
  row.append(...ends, ...parts.map(part), ...tail);
  return el("div", { class: "segment" }, el("span", { class: "segment-name", "aria-hidden": "true" }, name), row);
}

/** The embedding or the head, on the device that holds it. */
function end(plan, which, letter, name) {
  const index = Math.max(
    plan.devices.findIndex((device) => device[which]),
    0,
  );
  const title = `${name}: ${plan.devices[index]?.name ?? ""}`;
  return el("span", { class: `part end ${colour(index)}`, title }, letter);
}

function part({ device, index, range: [start, end] }) {
  const streamed = device.streamed.filter((block) => block >= start && block < end);
  const streams = streamed.length > 0 ? `, ${counted(streamed.length, "block")} read from disk` : "";
  const node = el("span", {
    class: `part ${colour(index)}`,
    title: `${device.name}: layers ${layers([start, end])}${streams}`,
  });
  node.style.flexGrow = String(end - start);
  for (const run of runs(start, end, new Set(streamed))) {
    const stripe = el("span", { class: run.streamed ? "run streamed" : "run" });
    stripe.style.flexGrow = String(run.length);
    node.append(stripe);
  }
  node.append(el("span", { class: "part-name" }, layers([start, end])));
  return node;
}

/** Neighbours that are held in the same way. */
function runs(start, end, streamed) {
  const found = [];
  for (let block = start; block < end; block += 1) {
    const last = found.at(-1);
    if (last && last.streamed === streamed.has(block)) last.length += 1;
    else found.push({ streamed: streamed.has(block), length: 1 });
  }
  return found;
}
