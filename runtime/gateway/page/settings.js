// Sampling settings and the system prompt. An empty field is the model's own affair: nothing is sent for it.

import { byId } from "./dom.js";

const KEPT = "lime.settings";
const NUMBERS = ["temperature", "top_p", "max_tokens", "seed"];

/** The dialog, and what it says. */
export class Settings {
  #dialog = byId("settings");
  #values = read();

  constructor() {
    byId("open-settings").addEventListener("click", () => this.#open());
    byId("reset-settings").addEventListener("click", () => this.#show({}));
    byId("settings-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#dialog.close();
    });
    // However it is closed, what stands there counts; a number out of range does not, and is shown again as it was.
    this.#dialog.addEventListener("close", () => this.#take());
  }

  /** The model's own values, as far as they are known. */
  defaults({ temperature, top_p, max_tokens }) {
    byId("temperature").placeholder = String(temperature ?? 1);
    byId("top_p").placeholder = String(top_p ?? 1);
    byId("max_tokens").placeholder = max_tokens === null ? "As many as fit" : String(max_tokens);
  }

  /** What is sent with each question. */
  sampling() {
    return Object.fromEntries(NUMBERS.filter((name) => name in this.#values).map((name) => [name, this.#values[name]]));
  }

  /** What comes before the first message. */
  system() {
    return this.#values.system ?? "";
  }

  #open() {
    this.#show(this.#values);
    this.#dialog.showModal();
  }

  #show(values) {
    byId("system").value = values.system ?? "";
    for (const name of NUMBERS) byId(name).value = values[name] ?? "";
  }

  #take() {
    const values = {};
    const system = byId("system").value.trim();
    if (system) values.system = system;
    for (const name of NUMBERS) {
      const field = byId(name);
      if (!field.validity.valid) {
        if (name in this.#values) values[name] = this.#values[name];
      } else if (field.value !== "") {
        values[name] = Number(field.value);
      }
    }
    this.#values = values;
    sessionStorage.setItem(KEPT, JSON.stringify(values));
  }
}

function read() {
  try {
    return JSON.parse(sessionStorage.getItem(KEPT)) ?? {};
  } catch {
    return {};
  }
}
