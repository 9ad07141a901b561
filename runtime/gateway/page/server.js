// The server, as far as the page knows it: questions, and the ring as it runs.

import { events } from "./events.js";
import { Fault } from "./faults.js";

const KEY = "lime.key";
const BASE = new URL(".", document.baseURI);
/** Between two tries to look at the ring. */
const PAUSE = 1500;

/** The key that was given for this tab. */
export function key() {
  return sessionStorage.getItem(KEY) ?? "";
}

export function keepKey(text) {
  if (text) sessionStorage.setItem(KEY, text);
  else sessionStorage.removeItem(KEY);
  keyChanged();
}

let keyChanged = () => {};

function anotherKey() {
  return new Promise((resolve) => (keyChanged = resolve));
}

async function request(path, options = {}) {
  const headers = { ...options.headers };
  if (key()) headers.authorization = `Bearer ${key()}`;
  let response;
  try {
    response = await fetch(new URL(path, BASE), { ...options, headers, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw Fault.away();
  }
  if (!response.ok) throw await Fault.of(response);
  return response;
}

/** The name of the model that is served. */
export async function firstModel(signal) {
  const list = await (await request("v1/models", { signal })).json();
  return list.data[0].id;
}

/** Asks, and gives each piece of the answer: `{ text, thought, reason, tokens }`. */
export async function* ask(question, signal) {
  const body = JSON.stringify({ ...question, stream: true, stream_options: { include_usage: true } });
  const headers = { "content-type": "application/json" };
  const response = await request("v1/chat/completions", { method: "POST", headers, body, signal });
  let ended = false;
  try {
    for await (const { data } of events(response)) {
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw Fault.inStream(chunk.error);
      const choice = chunk.choices?.[0];
      ended ||= Boolean(choice?.finish_reason);
      yield {
        text: choice?.delta?.content ?? "",
        thought: choice?.delta?.reasoning_content ?? "",
        reason: choice?.finish_reason ?? "",
        tokens: chunk.usage?.completion_tokens ?? 0,
      };
    }
  } catch (error) {
    if (error instanceof Fault || error.name === "AbortError") throw error;
    throw new Fault({ code: "broken", message: "The answer broke off." });
  }
  if (!ended) throw new Fault({ code: "broken", message: "The answer broke off." });
}

/** Looks at the ring as long as the page is seen: `seen` hears `plan` and `state`, `away` why there is nothing. */
export async function watch(seen, away) {
  for (;;) {
    await shown();
    const hidden = new AbortController();
    const hide = () => document.hidden && hidden.abort();
    document.addEventListener("visibilitychange", hide);
    try {
      const response = await request("lime/v1/live", { signal: hidden.signal });
      for await (const { kind, data } of events(response)) seen(kind, JSON.parse(data));
      away(Fault.away());
    } catch (error) {
      if (error.name === "AbortError") continue;
      const fault = error instanceof Fault ? error : Fault.away();
      const another = anotherKey();
      away(fault);
      // Looking goes on when there is another key: the same one would be refused again.
      if (fault.status === 401) {
        await another;
        continue;
      }
    } finally {
      document.removeEventListener("visibilitychange", hide);
    }
    await new Promise((resolve) => setTimeout(resolve, PAUSE));
  }
}

/** Waits until somebody sees the page. A browser has few connections for a server, and a page behind others needs none. */
async function shown() {
  while (document.hidden) {
    await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
  }
}
