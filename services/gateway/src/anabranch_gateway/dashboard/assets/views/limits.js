// @ts-check
/** The limits that runs share: who holds them, how many wait, and the state of breakers. */

import { integer } from "../lib/format.js";
import { absolute, duration } from "../lib/time.js";
import { Empty, Status } from "../ui/components.js";
import { html } from "../vendor/index.js";

const KINDS = /** @type {Record<string, string>} */ ({ concurrency: "Concurrency", run_concurrency: "Runs at once", rate: "Rate", breaker: "Breaker" });
const BREAKERS = /** @type {Record<string, [string, string]>} */ ({ closed: ["completed", "Closed"], half_open: ["retrying", "Half open"], open: ["failed", "Open"] });
const SHOWN_HOLDERS = 3;

/** @param {{ limits: any[] }} properties */
export const Limits = ({ limits }) => html`<section class="card" aria-labelledby="limits"><h2 id="limits">Limits that runs share</h2>
  ${limits.length === 0
    ? html`<${Empty} title="No limit is held or waited for"><p>Tasks share <code>concurrency</code> keys and a <code>rate_limit</code>, agents have a <code>breaker</code>.</p><//>`
    : html`<table class="rows cards"><caption class="unseen">Limits that runs share</caption>
      <thead><tr><th>Kind</th><th class="wide">Key</th><th>Limit</th><th class="number">Held</th><th class="number">Waiting</th><th>Held by</th></tr></thead>
      <tbody>${limits.map((limit) => html`<tr key=${`${limit.project} ${limit.kind} ${limit.scope} ${limit.key}`}>
        <td class="nowrap">${KINDS[limit.kind] ?? limit.kind}</td>
        <td class="wide">${limit.key}<span class="said muted">${[whose(limit), ...said(limit)].join(", ")}</span></td>
        <td class="nowrap" data-title="Limit">${limit.kind === "breaker" ? html`<${Breaker} state=${limit.state} />` : allowed(limit)}</td>
        <td class="number figure" data-title="Held">${limit.kind === "rate" ? "" : integer(limit.held)}</td>
        <td class="number figure" data-title="Waiting">${integer(limit.waiting)}</td>
        <td class="nowrap"><${Holders} holders=${limit.holders} /></td></tr>`)}</tbody>
    </table>`}
</section>`;

/** @param {{ state: string }} properties */
const Breaker = ({ state }) => {
  const [status, label] = BREAKERS[state] ?? ["waiting", state];
  return html`<${Status} status=${status} label=${label} />`;
};

/** @param {{ holders: any[] }} properties */
const Holders = ({ holders }) => html`${holders.slice(0, SHOWN_HOLDERS).map((each) => html`<span class="said">
    <a href=${`#/runs/${each.run_id}`}>${[each.group, each.task].filter(Boolean).join("/") || "run"}</a> <span class="muted">${each.run_id.slice(0, 8)}</span></span>`)}
  ${holders.length > SHOWN_HOLDERS && html`<span class="said muted">and ${integer(holders.length - SHOWN_HOLDERS)} more</span>`}`;

/** @param {any} limit */
const allowed = (limit) => (limit.kind === "rate" ? `${integer(limit.limit)} in ${duration(limit.per)}` : integer(limit.limit));

/** Until when nothing is granted, and who has decided that. @param {any} limit @returns {string[]} */
function said(limit) {
  const found = limit.blocked_until ? [`nothing before ${absolute(limit.blocked_until)}`] : [];
  if (limit.state !== "open") return found;
  if (limit.until) return [...found, `open until ${absolute(limit.until)}`];
  return [...found, `opened ${limit.by ? `by ${limit.by}` : "by hand"}${limit.reason ? `: ${limit.reason}` : ""}`];
}

/** What shares it. @param {any} limit */
function whose(limit) {
  if (limit.kind === "breaker") return "agent";
  if (limit.scope === "agent") return "configured for an agent";
  return limit.scope === "project" ? "configured for the project" : `project ${limit.project}`;
}
