// The ring beside the chat: devices, layers, memory, speed, and what happened.

import { el, say } from "./dom.js";
import { bytes, clock, counted, digits, duration, layers, percent } from "./format.js";
import { colour, picture } from "./layers.js";
import { legend, MemoryBar } from "./memory.js";
import { Speed } from "./speed.js";

/** So long after it came back a device is said to be back. */
const BACK = 6000;

export class Ring {
  speed = new Speed();
  #place;
  #devices = new Map();
  #log = el("ol", { class: "happened" });
  #summary = el("p", { class: "aside" });
  #told = 0;
  #lost = new Map();

  constructor(place) {
    this.#place = place;
  }

  /** Draws another plan. */
  plan(plan) {
    this.#devices = new Map(plan.devices.map((device, index) => [device.name, new Device(device, index)]));
    this.speed.predict(plan.prediction);
    const { name, layers: count, format, bytes: size } = plan.model;
    const room = `${counted(plan.context_tokens, "token")} of context`;
    const answers = `${counted(plan.concurrent_requests, "answer")} at once`;
    say(this.#summary, `${name}: ${counted(count, "layer")}, ${format}, ${bytes(size)}. ${room}, ${answers}.`);
    const section = (title, ...children) => el("section", {}, el("h3", {}, title), ...children);
    const cards = [...this.#devices.values()].map((device) => device.node);
    this.#place.replaceChildren(
      el("h2", {}, "Ring"),
      this.#summary,
      this.speed.node,
      section("Layers", picture(plan)),
      section(counted(plan.devices.length, "device"), el("ul", { class: "devices" }, ...cards), legend()),
      section("What happened", this.#log),
    );
  }

  /** Shows a moment of it. */
  state(state) {
    for (const told of state.happened) this.#hear(told, state.happened);
    for (const device of state.devices)
      this.#devices.get(device.name)?.show(device, state, this.#lost.get(device.name));
    this.speed.count(state);
  }

  #hear(told, all) {
    if (told.kind === "lost") this.#lost.set(told.device, { at: told.at_millis });
    if (told.kind === "recovered" || told.kind === "ready") {
      for (const lost of this.#lost.values()) lost.back ??= told.at_millis;
    }
    if (told.number <= this.#told) return;
    this.#told = told.number;
    const [before, after] = sentence(told, all);
    const time = el("time", { datetime: new Date(told.at_millis).toISOString() }, clock(told.at_millis));
    this.#log.prepend(
      el("li", { class: told.kind }, time, " ", before, after ? el("span", { class: "aside" }, ` ${after}`) : null),
    );
    while (this.#log.children.length > 24) this.#log.lastElementChild.remove();
  }
}

/** What happened in a sentence, and what is to be said besides. */
function sentence(told, all) {
  switch (told.kind) {
    case "lost":
      return [told.device === "ring" ? "The ring broke." : `${told.device} was lost.`, told.reason];
    case "recovered":
      return ["The ring is back.", `${away(told, all)}epoch ${told.epoch}: answers go on`];
    case "ready":
      return ["The ring serves.", ""];
    case "plan":
      return ["Another plan is followed.", told.name];
    case "unavailable":
      return ["The ring does not come back.", told.reason];
    default:
      return [told.kind, ""];
  }
}

/** How long the ring was away: since the first loss after it was there the last time. */
function away(told, all) {
  const before = all.filter((other) => other.number < told.number);
  const there = before.findLast((other) => other.kind === "recovered" || other.kind === "ready");
  const lost = before.find((other) => other.kind === "lost" && other.number > (there?.number ?? 0));
  return lost ? `after ${duration(told.at_millis - lost.at_millis)}, ` : "";
}

/** A device's card. */
class Device {
  #plan;
  #state = el("span", { class: "device-state" });
  #progress = el("progress", { max: 100, hidden: true });
  #memory;
  #streams = el("p", { class: "aside" });
  #before = null;

  constructor(plan, index) {
    this.#plan = plan;
    this.#memory = new MemoryBar(colour(index));
    this.#memory.show(plan.memory, null);
    const held = plan.ranges
      .filter(([start, end]) => end > start)
      .map(layers)
      .join(", ");
    const more = [plan.embedding ? "embedding" : "", plan.head ? "head" : ""].filter(Boolean).join(" and ");
    const what = [held ? `layers ${held}` : "", more].filter(Boolean).join(", ");
    const title = el(
      "p",
      { class: "device-head" },
      el("span", { class: `dot ${colour(index)}` }),
      el("strong", {}, plan.name),
      this.#state,
    );
    this.#progress.setAttribute("aria-label", `${plan.name} loads`);
    this.node = el(
      "li",
      { class: "device", "data-device": plan.name },
      title,
      el("p", { class: "aside device-what" }, el("span", {}, what), el("span", {}, bytes(plan.memory.budget_bytes))),
      this.#progress,
      this.#memory.node,
      this.#streams,
    );
  }

  show(now, state, lost) {
    const done = percent(now.loaded_bytes, now.total_bytes);
    const [kind, words] = this.#standing(now, state, lost, done);
    this.node.dataset.state = kind;
    say(this.#state, words);
    this.#progress.hidden = kind !== "loading";
    this.#progress.value = done;
    this.#memory.show(this.#plan.memory, now.memory);
    say(this.#streams, this.#streaming(now, state));
    this.#before = { at: state.at_millis, stream: now.stream };
  }

  #standing(now, state, lost, done) {
    if (now.stuck) return ["lost", `stuck: ${now.stuck}`];
    if (lost && !lost.back) return now.answers ? ["loading", `coming back, ${done} %`] : ["lost", "lost"];
    if (state.phase === "loading" && now.phase !== "ready")
      return ["loading", now.total_bytes > 0 ? `loading ${done} %` : "starting"];
    if (!now.answers) return ["lost", "does not answer"];
    if (lost && state.at_millis - lost.back < BACK) return ["back", "back"];
    return ["serving", state.phase === "ready" ? "serves" : "waits"];
  }

  #streaming(now, state) {
    const planned = this.#plan.streamed.length;
    if (!now.stream) return planned > 0 ? `${counted(planned, "block")} stream from disk` : "nothing streams";
    if (now.stream.blocks === 0) return this.#plan.steps > 0 ? "nothing streams yet" : "nothing streams";
    const words = [`${counted(now.stream.blocks, "block")} (${bytes(now.stream.bytes)}) from disk for each pass`];
    const [from, to] = [this.#before?.stream, now.stream];
    const millis = state.at_millis - (this.#before?.at ?? 0);
    // Counters begin anew with another plan.
    if (from && millis > 200 && to.read_bytes > from.read_bytes) {
      words.push(`${bytes(((to.read_bytes - from.read_bytes) * 1000) / millis)}/s`);
      const waits = (to.wait_micros - from.wait_micros) / 10 / millis;
      if (waits >= 1) words.push(`waits ${digits(Math.min(waits, 100))} %`);
    }
    return words.join(", ");
  }
}
