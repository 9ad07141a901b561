// Server-sent events of a response, one by one. The browser's own EventSource can neither POST nor send a key.

/** Each event as `{ kind, data }`. */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let [text, event] = ["", fresh()];
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      text += value;
      const lines = text.split("\n");
      text = lines.pop();
      for (const raw of lines) {
        const line = raw.endsWith("\r") ? raw.slice(0, -1) : raw;
        if (line === "") {
          if (event.data.length > 0) yield { kind: event.kind, data: event.data.join("\n") };
          event = fresh();
        } else {
          take(event, line);
        }
      }
    }
  } finally {
    // Whoever has enough closes the connection: the server stops drawing tokens.
    reader.cancel().catch(() => {});
  }
}

function fresh() {
  return { kind: "message", data: [] };
}

function take(event, line) {
  const colon = line.indexOf(":");
  // A line that begins with a colon only shows that the connection lives.
  if (colon === 0) return;
  const field = colon < 0 ? line : line.slice(0, colon);
  const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
  if (field === "data") event.data.push(value);
  if (field === "event") event.kind = value;
}
