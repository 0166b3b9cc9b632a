// @ts-check
/** Parses Server-Sent Events from the chunks of a text stream. No I/O. */

/** @typedef {{ id: string | null, event: string, data: string }} StreamMessage */

/** Incremental parser: `feed` takes a chunk and returns the messages that are complete. Comments are dropped. */
export class EventStreamParser {
  #rest = "";
  #id = /** @type {string | null} */ (null);
  #event = "";
  #data = /** @type {string[]} */ ([]);

  /**
   * @param {string} text
   * @returns {StreamMessage[]}
   */
  feed(text) {
    const whole = this.#rest + text;
    // A carriage return at the end of a chunk may be the first half of a line end.
    const held = whole.endsWith("\r") ? "\r" : "";
    const lines = (held ? whole.slice(0, -1) : whole).split(/\r\n|\n|\r/);
    this.#rest = (lines.pop() ?? "") + held;
    return lines.flatMap((line) => this.#line(line));
  }

  /** @param {string} line @returns {StreamMessage[]} */
  #line(line) {
    if (line === "") return this.#finish();
    if (line.startsWith(":")) return [];
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (field === "data") this.#data.push(value);
    else if (field === "event") this.#event = value;
    else if (field === "id" && !value.includes("\0")) this.#id = value;
    return [];
  }

  /** @returns {StreamMessage[]} */
  #finish() {
    const data = this.#data;
    const message = { id: this.#id, event: this.#event || "message", data: data.join("\n") };
    this.#event = "";
    this.#data = [];
    return data.length ? [message] : [];
  }
}
