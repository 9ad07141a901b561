// Tells screen readers of an answer sentence by sentence: token by token they would only begin words.

/** Ends of sentences, and of lines. */
const END = /[.!?:;]["')\]]?\s|\n/g;

export class Speaker {
  #log;
  #told = 0;

  constructor(log) {
    this.#log = log;
  }

  begin() {
    this.#log.replaceChildren();
    this.#told = 0;
  }

  /** The answer so far. */
  hear(text) {
    const ends = [...text.slice(this.#told).matchAll(END)];
    const last = ends.at(-1);
    if (last) this.#tell(text, this.#told + last.index + last[0].length);
  }

  end(text) {
    this.#tell(text, text.length);
  }

  #tell(text, end) {
    const sentence = text.slice(this.#told, end).trim();
    this.#told = end;
    if (!sentence) return;
    const line = document.createElement("p");
    line.textContent = sentence;
    this.#log.append(line);
  }
}
