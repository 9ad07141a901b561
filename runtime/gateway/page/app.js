// The page: chat and ring, and how they hear of each other.

import { Chat } from "./chat.js";
import { Composer } from "./composer.js";
import { byId, el, say } from "./dom.js";
import { advice } from "./faults.js";
import { percent } from "./format.js";
import { Ring } from "./ring.js";
import { keepKey, key, watch } from "./server.js";
import { Settings } from "./settings.js";

const WORDS = {
  loading: "Loading",
  waiting: "Waiting for another gateway",
  ready: "Ready",
  recovering: "Coming back",
  unavailable: "Away",
  stopping: "Stopping",
  away: "No connection",
};
const EXAMPLES = [
  "Tell me about yourself.",
  "Write a short poem about a lime tree.",
  "Explain what a ring of small machines is.",
];
const PLAIN_EXAMPLES = ["ROMEO:", "Once upon a time", "The first rule of"];

const settings = new Settings();
const ring = new Ring(byId("ring"));
let model = "";
let answering = false;
let served = null;
let ready = gate();

const composer = new Composer({ send: (text) => chat.send(text), stop: () => chat.stop() });
const chat = new Chat(settings, {
  model: () => model,
  ready: () => ready.passed,
  answering: (yes) => {
    answering = yes;
    composer.answering = yes;
    if (!yes) byId("question").focus();
  },
  measured: (rate) => ring.speed.answered(rate),
  key: () => askForKey("The key was not taken."),
});

byId("fresh").addEventListener("click", () => {
  chat.clear();
  byId("question").focus();
});
byId("view").addEventListener("click", () => {
  const ringShown = document.body.dataset.view !== "ring";
  document.body.dataset.view = ringShown ? "ring" : "chat";
  byId("view").setAttribute("aria-pressed", String(ringShown));
});

watch(
  (kind, data) => (kind === "plan" ? tookUp(data) : kind === "state" ? standing(data) : undefined),
  async (fault) => {
    phase("away", fault.status === 401 ? "Key needed" : fault.code === "away" ? WORDS.away : "Nothing to see");
    if (fault.status === 401) {
      const given = await askForKey("The key was not taken.");
      if (!given) notice("This server asks for a key. Send a message to be asked for it again.");
      return;
    }
    notice(`${fault.message} ${advice(fault)}`);
  },
);

/** What those wait for who ask too early. */
function gate() {
  let open;
  const passed = new Promise((resolve) => (open = resolve));
  return { open, passed, isOpen: false };
}

function tookUp(plan) {
  model = plan.served_name;
  say(byId("model"), model);
  document.title = `${model} · LIME`;
  settings.defaults(plan.defaults);
  ring.plan(plan);
  if (plan.model.chat_template === served) return;
  served = plan.model.chat_template;
  if (!served) {
    say(byId("greeting"), "Begin a text");
    say(
      byId("hint"),
      "This model has no chat template: it goes on writing from your words, on the machines of the ring.",
    );
  }
  const example = (text) =>
    el("button", { type: "button", class: "example", onclick: () => composer.offer(text) }, text);
  byId("examples").replaceChildren(...(served ? EXAMPLES : PLAIN_EXAMPLES).map(example));
}

function standing(state) {
  ring.state(state);
  const total = (field) => state.devices.reduce((sum, device) => sum + device[field], 0);
  const done = state.phase === "loading" ? ` ${percent(total("loaded_bytes"), total("total_bytes"))} %` : "";
  phase(state.phase, `${WORDS[state.phase] ?? state.phase}${done}`);
  if (state.phase === "ready") {
    ready.open();
    ready.isOpen = true;
  } else if (state.phase === "loading" && ready.isOpen) {
    ready = gate();
  }
  notice(sentence(state));
}

/** What keeps an answer waiting, where something does. */
function sentence({ phase, trouble, devices }) {
  switch (phase) {
    case "recovering":
      return answering
        ? "A machine was lost. Your answer waits, and goes on where it was as soon as the ring is back."
        : "A machine was lost. The ring is coming back.";
    case "unavailable":
      return `The ring does not come back${whyAway(trouble, devices)}. It is tried again all the time.`;
    case "waiting":
      return "Another gateway ends its answers first.";
    case "stopping":
      return "LIME is stopping.";
    case "loading":
      return trouble ? `The ring is not there yet: ${trouble}` : "";
    default:
      return "";
  }
}

function whyAway(trouble, devices) {
  const missing = devices.filter((device) => !device.answers).map((device) => device.name);
  if (missing.length > 0) return `: ${missing.join(" and ")} ${missing.length > 1 ? "do" : "does"} not answer`;
  return trouble ? `: ${trouble}` : "";
}

function phase(name, words) {
  byId("phase").dataset.phase = name;
  say(byId("phase"), words);
}

function notice(words) {
  say(byId("notice"), words);
  byId("notice").hidden = !words;
}

let asking = null;

/** Asks for the key; resolves to whether there is another one. */
function askForKey(fault) {
  asking ??= new Promise((resolve) => {
    const dialog = byId("key");
    say(byId("key-fault"), key() ? fault : "");
    byId("key-field").value = "";
    const before = key();
    const given = (event) => {
      event.preventDefault();
      keepKey(byId("key-field").value.trim());
      dialog.close();
    };
    byId("key-form").addEventListener("submit", given);
    byId("key-cancel").onclick = () => dialog.close();
    const closed = () => {
      byId("key-form").removeEventListener("submit", given);
      asking = null;
      resolve(key() !== "" && key() !== before);
    };
    dialog.addEventListener("close", closed, { once: true });
    dialog.showModal();
  });
  return asking;
}
