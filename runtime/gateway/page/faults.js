// What went wrong, as a sentence and what to do about it.

/** A refusal of the server, or its silence. */
export class Fault extends Error {
  constructor({ code, message, status = 0, wait = 0 }) {
    super(message);
    this.code = code;
    this.status = status;
    /** Seconds after which the server would like to be asked again; 0 where it does not say. */
    this.wait = wait;
  }

  /** The server does not answer. */
  static away() {
    return new Fault({ code: "away", message: "This page cannot reach the server." });
  }

  /** What a response says that is no success. */
  static async of(response) {
    const wait = Number(response.headers.get("retry-after")) || 0;
    const told = await response.json().catch(() => ({}));
    const message = told.error?.message ?? `The server answers ${response.status}.`;
    return new Fault({ code: told.error?.code ?? "", message, status: response.status, wait });
  }

  /** An error that came in the middle of a stream. */
  static inStream(error) {
    return new Fault({ code: error.code ?? "", message: error.message ?? "The answer broke off." });
  }
}

const ADVICE = {
  away: "See whether LIME still runs (lime up, or the gateway's pod) and try again.",
  broken: "The connection was cut. Try again: the answer begins anew.",
  invalid_api_key: "Give the key that the server was started with.",
  queue_full: "Every slot is taken. Wait a little and try again.",
  server_busy: "Wait a little and try again.",
  model_loading: "It is asked again as soon as the ring is ready.",
  ring_unavailable: "See in the ring which machine is missing. It is tried again all the time.",
  server_shutdown: "Start LIME again, then try again.",
  context_length_exceeded: "Begin a new chat, or shorten your message or the system prompt.",
  context_reduced: "Try again: the new plan has less room.",
  chat_template_error: "This model's template does not take such a conversation. Without a system prompt it may.",
  forbidden_host: "Open this page by the machine's address, or start LIME with --allow-host.",
  request_too_large: "Shorten your message.",
};

/** What to do about it; empty where the message says it all. */
export function advice(fault) {
  if (ADVICE[fault.code]) return ADVICE[fault.code];
  return fault.status >= 500 ? "Try again. If it stays so, the server's log says more." : "";
}
