// Tokens a second: what the plan promises, and what comes.

import { el, say, svg } from "./dom.js";
import { digits } from "./format.js";

/** Over so many milliseconds the speed is measured. */
const WINDOW = 5000;
/** So many measurements are drawn, about one a second. */
const DRAWN = 60;
const [WIDTH, HEIGHT] = [240, 36];

export class Speed {
  #predicted = el("dd", {}, "–");
  #predictedFor = el("dd", { class: "aside" });
  #measured = el("dd", { "data-measured": true }, "–");
  #measuredOf = el("dd", { class: "aside" }, "nothing asked yet");
  #line = svg("polyline", { points: "" });
  #seen = [];
  #rates = [];
  node = el(
    "section",
    { class: "speed", "aria-label": "Tokens a second" },
    el(
      "dl",
      {},
      el("div", {}, el("dt", {}, "Predicted"), this.#predicted, this.#predictedFor),
      el("div", {}, el("dt", {}, "Measured"), this.#measured, this.#measuredOf),
    ),
    svg(
      "svg",
      { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true", class: "spark empty" },
      this.#line,
    ),
  );

  /** A plan's prediction, where it has one. */
  predict(prediction) {
    say(this.#predicted, prediction ? digits(prediction.tokens_per_second) : "–");
    const answers = prediction?.sequences === 1 ? "one" : `${prediction?.sequences}`;
    say(this.#predictedFor, prediction ? `tokens/s, ${answers} at a time` : "this plan has no prediction");
  }

  /** The ring's own count of tokens. */
  count({ at_millis, drawn_tokens, requests }) {
    this.#seen.push({ at: at_millis, drawn: drawn_tokens, active: requests.active });
    // One measurement before the window's begin is kept, to measure from.
    while (this.#seen.length > 2 && this.#seen[1].at <= at_millis - WINDOW) this.#seen.shift();
    // From when somebody asked: a pause before it says nothing about the speed.
    const from =
      this.#seen.find((seen, index) => seen.active > 0 || this.#seen[index + 1]?.active > 0) ?? this.#seen.at(-1);
    const millis = at_millis - from.at;
    const rate = millis > 0 ? ((drawn_tokens - from.drawn) * 1000) / millis : 0;
    if (requests.active > 0 && rate > 0) {
      say(this.#measured, digits(rate));
      const answers = requests.active === 1 ? "one" : `${requests.active}`;
      say(this.#measuredOf, `tokens/s, ${answers} at a time`);
    }
    this.#rates.push(requests.active > 0 ? rate : 0);
    if (this.#rates.length > DRAWN) this.#rates.shift();
    this.#draw();
  }

  /** What an answer of this page came to. */
  answered(rate) {
    say(this.#measured, digits(rate));
    say(this.#measuredOf, "tokens/s, your last answer");
  }

  #draw() {
    const most = Math.max(...this.#rates, 1e-9);
    const point = (rate, index) => {
      const x = WIDTH - ((this.#rates.length - 1 - index) * WIDTH) / (DRAWN - 1);
      return `${x.toFixed(1)},${(HEIGHT - 2 - (rate / most) * (HEIGHT - 4)).toFixed(1)}`;
    };
    // A flat line of nothing says nothing.
    this.#line.parentNode.classList.toggle("empty", !this.#rates.some((rate) => rate > 0));
    this.#line.setAttribute("points", this.#rates.map(point).join(" "));
  }
}
