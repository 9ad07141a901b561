// The conversation: what was said, the answer as it comes, and what went wrong with it. It lives in this page alone.

import { byId, el, say } from "./dom.js";
import { advice, Fault } from "./faults.js";
import { digits, duration } from "./format.js";
import { show } from "./markdown.js";
import { ask, firstModel } from "./server.js";
import { Speaker } from "./speaker.js";

/** So close to the end a reader follows the answer. */
const FOLLOWS = 80;

export class Chat {
  #list = byId("messages");
  #turns = [];
  #stop = null;
  #speaker = new Speaker(byId("spoken"));
  #settings;
  #hooks;

  /**
   * `hooks.model()` names it, `hooks.ready()` is waited for by a question that came too early, `hooks.answering(yes)`
   * and `hooks.measured(tokens per second)` are told, `hooks.key()` asks for a key and says whether there is one.
   */
  constructor(settings, hooks) {
    this.#settings = settings;
    this.#hooks = hooks;
    this.#list.addEventListener("click", (event) => copyCode(event));
  }

  send(text) {
    byId("welcome").hidden = true;
    this.#turns.push({ role: "user", content: text });
    this.#list.append(el("article", { class: "turn user", "aria-label": "You" }, el("p", {}, text)));
    return this.#answer();
  }

  stop() {
    this.#stop?.abort();
  }

  /** Forgets everything. */
  clear() {
    this.stop();
    this.#turns = [];
    for (const turn of [...this.#list.querySelectorAll(".turn")]) turn.remove();
    byId("welcome").hidden = false;
  }

  async #answer() {
    // A second answer would be to another question than its reader thinks.
    this.stop();
    const stop = (this.#stop = new AbortController());
    const turns = this.#turns;
    const answer = new Answer();
    this.#list.append(answer.node);
    this.#list.scrollTop = this.#list.scrollHeight;
    this.#hooks.answering(true);
    this.#speaker.begin();
    try {
      await this.#stream(answer, stop.signal);
      answer.end(this.#ended(answer));
    } catch (error) {
      if (error.name === "AbortError") answer.end("Stopped");
      else await this.#failed(answer, error);
    } finally {
      this.#speaker.end(answer.text);
      if (answer.text && turns === this.#turns) turns.push({ role: "assistant", content: answer.text });
      if (this.#stop === stop) {
        this.#stop = null;
        this.#hooks.answering(false);
      }
    }
  }

  async #stream(answer, signal) {
    for (;;) {
      try {
        // Without a key the page has not been told its name yet.
        const model = this.#hooks.model() || (await firstModel(signal));
        for await (const piece of ask(this.#question(model), signal)) {
          const follows = this.#list.scrollHeight - this.#list.scrollTop - this.#list.clientHeight < FOLLOWS;
          answer.take(piece);
          this.#speaker.hear(answer.text);
          if (follows) this.#list.scrollTop = this.#list.scrollHeight;
        }
        return;
      } catch (error) {
        if (error.code !== "model_loading") throw error;
        answer.wait("The model is loading: your message is sent as soon as it is there.");
        await either(this.#hooks.ready(), signal);
      }
    }
  }

  #question(model) {
    const system = this.#settings.system();
    const first = system ? [{ role: "system", content: system }] : [];
    return { model, messages: [...first, ...this.#turns], ...this.#settings.sampling() };
  }

  #ended(answer) {
    const rate = answer.rate();
    if (rate > 0) this.#hooks.measured(rate);
    const cut = answer.reason === "length" ? "cut at its greatest length" : "";
    const speed = rate > 0 ? `${digits(rate)} tokens/s` : "";
    const first = answer.first > 0 ? `first after ${duration(answer.first)}` : "";
    return [`${answer.tokens} tokens`, speed, first, cut].filter(Boolean).join(" · ");
  }

  async #failed(answer, error) {
    const fault =
      error instanceof Fault ? error : new Fault({ code: "page", message: `The page failed: ${error.message}` });
    const again = el("button", { type: "button", class: "quiet", onclick: () => this.#again(answer) }, "Try again");
    answer.fail(fault, again);
    if (fault.status === 401 && (await this.#hooks.key())) this.#again(answer);
  }

  #again(answer) {
    // What came of the answer before it failed is no part of what was said.
    if (this.#turns.at(-1)?.role === "assistant") this.#turns.pop();
    answer.node.remove();
    if (this.#turns.at(-1)?.role === "user") this.#answer();
  }
}

/** One answer, from the question to its last token. */
class Answer {
  text = "";
  thought = "";
  reason = "";
  tokens = 0;
  /** Milliseconds to the first token. */
  first = 0;
  #asked = performance.now();
  #last = 0;
  #body = el("div", { class: "body" });
  #thoughts = null;
  #foot = el("footer", { class: "foot" });
  #drawing = 0;

  constructor() {
    this.#foot.append(el("span", { class: "waiting" }, "Reading your message"));
    this.node = el(
      "article",
      { class: "turn model", "aria-label": "Answer", "aria-busy": "true" },
      this.#body,
      this.#foot,
    );
  }

  /** Says what is waited for. */
  wait(words) {
    this.#foot.replaceChildren(el("span", { class: "waiting" }, words));
  }

  take({ text, thought, reason, tokens }) {
    if (text || thought) {
      this.#last = performance.now();
      if (this.first === 0) {
        this.first = this.#last - this.#asked;
        this.#foot.replaceChildren();
      }
      this.text += text;
      this.thought += thought;
      this.tokens += 1;
      // As often as the screen shows something.
      this.#drawing ||= requestAnimationFrame(() => this.#draw());
    }
    if (reason) this.reason = reason;
    if (tokens) this.tokens = tokens;
  }

  /** Tokens a second after the first. */
  rate() {
    const millis = this.#last - this.#asked - this.first;
    return this.tokens > 1 && millis > 0 ? ((this.tokens - 1) * 1000) / millis : 0;
  }

  end(note) {
    this.#draw();
    this.node.setAttribute("aria-busy", "false");
    const text = this.text;
    const copy = el(
      "button",
      { type: "button", class: "copy", onclick: (event) => copyTo(event.target, text) },
      "Copy",
    );
    this.#foot.replaceChildren(el("span", {}, note), ...(text ? [copy] : []));
  }

  fail(fault, again) {
    this.#draw();
    this.node.setAttribute("aria-busy", "false");
    const told = el("p", {}, el("strong", {}, fault.message), " ", advice(fault));
    this.#foot.replaceChildren(el("div", { class: "fault", role: "alert" }, told, again));
  }

  #draw() {
    cancelAnimationFrame(this.#drawing);
    this.#drawing = 0;
    if (this.thought) {
      if (!this.#thoughts) {
        this.#thoughts = el("p", {});
        this.node.prepend(
          el("details", { class: "thought" }, el("summary", {}, "What it thought first"), this.#thoughts),
        );
      }
      say(this.#thoughts, this.thought);
    }
    show(this.#body, this.text);
  }
}

/** Resolves with the promise; ends with the signal. */
function either(promise, signal) {
  const aborted = new Promise((_, reject) => {
    signal.addEventListener("abort", () => reject(new DOMException("stopped", "AbortError")), { once: true });
  });
  return Promise.race([promise, aborted]);
}

function copyCode(event) {
  const button = event.target.closest("[data-copy]");
  if (button) copyTo(button, button.closest(".code").querySelector("pre").textContent);
}

async function copyTo(button, text) {
  try {
    await navigator.clipboard.writeText(text);
    say(button, "Copied");
  } catch {
    // Browsers give the clipboard to pages of https and of this machine alone.
    say(button, "Select it to copy");
  }
  setTimeout(() => say(button, "Copy"), 1500);
}
