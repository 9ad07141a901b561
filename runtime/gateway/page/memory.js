// A device's memory: what takes how much of what it may use.

import { el, say } from "./dom.js";
import { bytes } from "./format.js";

const KINDS = [
  { name: "pinned", words: "weights that stay" },
  { name: "buffer", words: "buffer for those that stream" },
  { name: "kv", words: "KV cache in use" },
  { name: "room", words: "room for more KV" },
  { name: "other", words: "activations and the rest" },
];

/** What the colours and hatchings mean. */
export function legend() {
  const entries = KINDS.map(({ name, words }) => el("li", {}, el("span", { class: `swatch ${name} device-0` }), words));
  return el("ul", { class: "legend" }, ...entries);
}

export class MemoryBar {
  #bar = el("div", { class: "memory-bar", role: "img" });
  #words = el("p", { class: "memory-words" });
  #parts = new Map();
  node = el("div", { class: "memory" }, this.#bar, this.#words);

  constructor(colour) {
    this.#bar.classList.add(colour);
    for (const { name } of KINDS) {
      const part = el("span", { class: name });
      this.#parts.set(name, part);
      this.#bar.append(part);
    }
    this.#bar.append(el("span", { class: "free" }));
  }

  /** What the plan gives the device, and what it uses, where it says so. */
  show(planned, used) {
    const budget = planned.budget_bytes;
    const now = used
      ? {
          pinned: used.pinned_bytes,
          buffer: used.prefetch_bytes,
          kv: used.kv_bytes,
          room: Math.max(used.kv_room_bytes - used.kv_bytes, 0),
          other: used.activation_bytes + planned.overhead_bytes + planned.lent_bytes,
        }
      : {
          pinned: planned.pinned_bytes,
          buffer: planned.prefetch_bytes,
          kv: 0,
          room: planned.kv_bytes,
          other: planned.activation_bytes + planned.overhead_bytes + planned.lent_bytes,
        };
    let left = budget;
    for (const { name } of KINDS) {
      const share = Math.min(now[name], left);
      left -= share;
      this.#parts.get(name).style.flexGrow = String(share / budget);
    }
    this.#bar.lastElementChild.style.flexGrow = String(left / budget);
    const kv = `KV ${bytes(now.kv)} of ${bytes(now.kv + now.room)}`;
    const buffer = now.buffer > 0 ? [`buffer ${bytes(now.buffer)}`] : [];
    const words = [`weights ${bytes(now.pinned)}`, ...buffer, kv].join(" · ");
    say(this.#words, words);
    const label = `Memory, ${bytes(budget)} in all: ${words}`;
    if (this.#bar.getAttribute("aria-label") !== label) this.#bar.setAttribute("aria-label", label);
  }
}
