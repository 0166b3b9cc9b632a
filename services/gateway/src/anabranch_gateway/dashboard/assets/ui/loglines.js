// @ts-check
/** Log lines of agents. */

import { absolute, clock } from "../lib/time.js";
import { html } from "../vendor/index.js";

const SHAPES = /** @type {Record<string, string>} */ ({ debug: "idle", info: "running", warning: "stopped", error: "bad", critical: "bad" });

/** @param {{ line: any, where?: boolean }} properties */
export function LogLine({ line, where = false }) {
  const level = String(line.level ?? "info").toLowerCase();
  const fields = Object.entries(line.fields ?? {});
  return html`<div class="log-line">
    <time title=${absolute(line.time)}>${clock(line.time)}</time>
    <span class=${`log-level tone-${SHAPES[level] ?? "idle"}`}>${level}</span>
    ${where && html`<span class="log-where">${line.task}${line.index === null || line.index === undefined ? "" : ` [${line.index}]`}</span>`}
    <span class="log-text">${line.message}${fields.map(([name, value]) => html` <span class="muted">${name}=</span>${typeof value === "string" ? value : JSON.stringify(value)}`)}</span>
  </div>`;
}

/** @param {{ lines: any[] }} properties */
export function LogLines({ lines }) {
  return html`<div class="log-lines" role="log" tabindex="0" aria-label="Log lines" aria-live="off">${lines.map((line, nth) => html`<${LogLine} key=${nth} line=${line} />`)}</div>`;
}
