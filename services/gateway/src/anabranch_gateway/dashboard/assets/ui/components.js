// @ts-check
/** Small components that many views use. */

import { compact, integer, percent, shortId } from "../lib/format.js";
import { useApp, useNow } from "../lib/hooks.js";
import { appearanceOf } from "../lib/status.js";
import { sharesOf } from "../lib/run.js";
import { absolute, duration, elapsed, machine, relative, secondsOf } from "../lib/time.js";
import { html, useState } from "../vendor/index.js";
import { Icon, StatusIcon } from "./icons.js";

/** @param {{ status: string | null | undefined, label?: string }} properties */
export function Status({ status, label }) {
  const appearance = appearanceOf(status);
  return html`<span class=${`status tone-${appearance.tone}`}><${StatusIcon} status=${status} />${label ?? appearance.label}</span>`;
}

/** A relative time; the exact time on hover. @param {{ at: import("../lib/time.js").Time | null | undefined }} properties */
export function Ago({ at }) {
  const now = useNow();
  if (at === null || at === undefined) return html`<span class="muted">–</span>`;
  return html`<time class="nowrap" datetime=${machine(at)} title=${absolute(at)}>${relative(at, now)}</time>`;
}

/** A duration, or the time since the start. @param {{ from: import("../lib/time.js").Time | null | undefined, to: import("../lib/time.js").Time | null | undefined }} properties */
export function Took({ from, to }) {
  const now = useNow();
  if (from === null || from === undefined) return html`<span class="muted">–</span>`;
  const seconds = Math.max(0, secondsOf(to ?? now) - secondsOf(from));
  return html`<span class="figure nowrap">${to === null || to === undefined ? elapsed(seconds) : duration(seconds)}</span>`;
}

/** @param {{ text: string, label: string }} properties */
export function Copy({ text, label }) {
  const { notify } = useApp();
  const [done, setDone] = useState(false);
  const copy = async (/** @type {Event} */ event) => {
    event.preventDefault();
    event.stopPropagation();
    try {
      await navigator.clipboard.writeText(text);
      setDone(true);
      notify(`Copied ${label}`);
      setTimeout(() => setDone(false), 1500);
    } catch {
      notify("The browser does not allow copying here: select the text instead", "bad");
    }
  };
  return html`<button type="button" class="quiet icon-button small" title=${`Copy ${label}`} aria-label=${`Copy ${label}`} onClick=${copy}>
    <${Icon} name=${done ? "check" : "copy"} size=${14} />
  </button>`;
}

/** @param {{ id: string, label: string, whole?: boolean }} properties */
export function Id({ id, label, whole = false }) {
  return html`<span class="id"><code title=${id}>${whole ? id : shortId(id)}</code><${Copy} text=${id} label=${label} /></span>`;
}

/**
 * Members as a bar: completed, failed, running, the rest.
 * @param {{ counts: { members?: number | null, completed?: number, failed?: number, running?: number }, label?: string }} properties
 */
export function Shares({ counts, label = "members" }) {
  const total = counts.members ?? 0;
  const widths = sharesOf(counts);
  const parts = /** @type {[string, number][]} */ ([
    ["good", widths.completed],
    ["bad", widths.failed],
    ["running", widths.running],
  ]);
  const text = `${integer(counts.completed ?? 0)} of ${integer(total)} ${label} completed, ${counts.failed ?? 0} failed, ${counts.running ?? 0} running`;
  return html`<span class="shares" role="img" aria-label=${text} title=${text}>
    ${parts.map(([tone, part]) => part > 0 && html`<span class=${`tone-${tone}`} style=${{ width: `${100 * part}%` }}></span>`)}
  </span>`;
}

/**
 * Progress as a bar and a figure: the completed share if it is known, because an open run may get more members.
 * @param {{ counts: any, open?: boolean }} properties
 */
export function Progress({ counts, open = false }) {
  const ended = (counts.completed ?? 0) + (counts.failed ?? 0);
  return html`<span class="progress"><${Shares} counts=${counts} /><span class="figure muted">${figure(counts, open, ended)}</span></span>`;
}

/**
 * @param {any} counts
 * @param {boolean} open
 * @param {number} ended
 */
function figure(counts, open, ended) {
  if (counts.share != null) return percent(counts.share, 1);
  return open ? compact(ended) : percent(ended, counts.members ?? 0);
}

/** @param {{ title: string, children?: any }} properties */
export function Empty({ title, children }) {
  return html`<div class="empty"><h2>${title}</h2>${children}</div>`;
}

/** @param {{ error: any, onRetry?: () => void }} properties */
export function Failure({ error, onRetry }) {
  const problem = error?.problem;
  return html`<div class="notice tone-bad" role="alert">
    <${StatusIcon} status="failed" />
    <div class="grow">
      <strong>${problem?.title ?? "Something went wrong"}</strong>
      ${(problem?.detail ?? error?.message) && html`<p>${problem?.detail ?? error?.message}</p>`}
      ${problem?.errors?.length > 0 && html`<ul>${problem.errors.map((/** @type {any} */ each) => html`<li><code>${each.path || each.code}</code> ${each.message}</li>`)}</ul>`}
    </div>
    ${onRetry && html`<button type="button" onClick=${onRetry}>Try again</button>`}
  </div>`;
}

/** Placeholder lines of about the final height, so that the page does not jump. @param {{ rows?: number }} properties */
export function Loading({ rows = 6 }) {
  return html`<div class="loading" role="status"><span class="unseen">Loading</span>
    ${Array.from({ length: rows }, () => html`<div class="bone" aria-hidden="true"></div>`)}
  </div>`;
}

/**
 * A name truncated in the middle: names of one workflow differ at their ends.
 * @param {{ text: string, hidden?: number }} properties `hidden`: length of the prefix that all names share
 */
export function Truncated({ text, hidden = 0 }) {
  const shown = hidden ? `…${text.slice(hidden)}` : text;
  const tail = Math.min(10, Math.floor(shown.length / 2));
  return html`<span class="cut-middle" title=${text}><span class="unseen">${text}</span>
    <span class="cut" aria-hidden="true">${shown.slice(0, shown.length - tail)}</span><span aria-hidden="true">${shown.slice(shown.length - tail)}</span></span>`;
}

/** A command to run, with a button that copies it. @param {{ text: string, label?: string }} properties */
export function Command({ text, label = "the command" }) {
  return html`<div class="command"><pre tabindex="0" aria-label=${label}>${text}</pre><${Copy} text=${text} label=${label} /></div>`;
}

/** @param {{ items: [string, any][] }} properties */
export function Details({ items }) {
  return html`<dl class="facts">${items.filter(([, value]) => value !== null && value !== undefined && value !== "" && value !== false).map(
    ([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`,
  )}</dl>`;
}

/**
 * A group of buttons, one of which is selected.
 * @param {{ label: string, options: { value: string, label: string, count?: number | null }[], value: string, onChange: (value: string) => void }} properties
 */
export function Choice({ label, options, value, onChange }) {
  return html`<div class="choice" role="group" aria-label=${label}>
    ${options.map((option) => html`<button type="button" key=${option.value} aria-pressed=${option.value === value} onClick=${() => onChange(option.value)}>
      ${option.label}${option.count !== undefined && option.count !== null && html` <span class="count">${integer(option.count)}</span>`}
    </button>`)}
  </div>`;
}
