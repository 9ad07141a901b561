// The message field: Enter sends, Escape stops, and the button does what can be done now.

import { byId, say } from "./dom.js";

export class Composer {
  #field = byId("question");
  #button = byId("send");
  #answering = false;
  #actions;

  /** `actions.send(text)` and `actions.stop()`. */
  constructor(actions) {
    this.#actions = actions;
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.#answering) this.#actions.stop();
      else this.#send();
    });
    this.#field.addEventListener("keydown", (event) => this.#key(event));
    this.#field.addEventListener("input", () => this.#fit());
    document.addEventListener("keydown", (event) => {
      const inDialog = document.querySelector("dialog[open]") !== null;
      if (event.key === "Escape" && this.#answering && !inDialog) this.#actions.stop();
    });
  }

  /** Whether an answer is on its way. */
  set answering(answering) {
    this.#answering = answering;
    say(this.#button, answering ? "Stop" : "Send");
    this.#button.classList.toggle("stop", answering);
  }

  /** Puts a text there, for the person to change or send. */
  offer(text) {
    this.#field.value = text;
    this.#fit();
    this.#field.focus();
  }

  #send() {
    const text = this.#field.value.trim();
    if (!text) return this.#field.focus();
    this.#field.value = "";
    this.#fit();
    this.#actions.send(text);
  }

  #key(event) {
    // While a word is being composed Enter ends the word; on phones the key begins a line, and the button sends.
    const plain = event.key === "Enter" && !event.shiftKey && !event.isComposing;
    if (!plain || matchMedia("(pointer: coarse)").matches) return;
    event.preventDefault();
    if (!this.#answering) this.#send();
  }

  #fit() {
    this.#field.style.height = "auto";
    this.#field.style.height = `${this.#field.scrollHeight + 2}px`;
  }
}
