// @ts-check
/** The schedules: a calendar of their next firings, and the history of each. */

import { integer } from "../lib/format.js";
import { useApp, useEvery, useLoaded, useStream, useTitle } from "../lib/hooks.js";
import { Empty, Failure, Loading, Status } from "../ui/components.js";
import { html } from "../vendor/index.js";

const SHOWN_PAST = 20;

export function Schedules() {
  const app = useApp();
  useTitle("Schedules");
  const found = useLoaded((signal) => app.api.get("v1/schedules", {}, signal), []);
  useEvery(true, 5000, () => found.reload());
  useStream(null, () => undefined);
  return html`<div class="page">
    <div class="page-head"><h1>Schedules</h1></div>
    ${found.error && html`<${Failure} error=${found.error} onRetry=${() => found.reload()} />`}
    ${!found.value && !found.error && html`<${Loading} rows=${6} />`}
    ${found.value && found.value.schedules.length === 0 && html`<${Empty} title="No schedules"><p>Put one with <code>anabranch schedules put FILE</code></p><//>`}
    ${found.value && found.value.schedules.length > 0 && html`<${Calendar} schedules=${found.value.schedules} />
      ${found.value.schedules.map((/** @type {any} */ each) => html`<${Schedule} key=${each.id} schedule=${each} />`)}`}
  </div>`;
}

/** Each day with its next firings, in UTC. @param {{ schedules: any[] }} properties */
const Calendar = ({ schedules }) => {
  const firings = schedules
    .filter((each) => !each.paused)
    .flatMap((each) => each.next.map((/** @type {string} */ at) => ({ at, id: each.id })))
    .sort((one, other) => (one.at < other.at ? -1 : 1));
  const days = [...new Set(firings.map((each) => each.at.slice(0, 10)))].slice(0, 14);
  return html`<section class="card" aria-labelledby="calendar"><h2 id="calendar">Next firings</h2>
    ${days.length === 0
      ? html`<p class="muted">No schedule fires again.</p>`
      : html`<table class="rows"><caption class="unseen">Next firings by day, in UTC</caption>
        <thead><tr><th>Day (UTC)</th><th class="wide">Firings</th></tr></thead>
        <tbody>${days.map((day) => html`<tr key=${day}><td class="nowrap">${day}</td>
          <td class="wide">${firings.filter((each) => each.at.startsWith(day)).map((each) => html`<span class="said">${each.at.slice(11, 19)} ${each.id}</span>`)}</td></tr>`)}</tbody>
      </table>`}
  </section>`;
};

/** @param {{ schedule: any }} properties */
const Schedule = ({ schedule }) => {
  const past = [...schedule.running.map(open("running")), ...schedule.waiting.map(open("queued")), ...schedule.history];
  const missed = Object.entries(schedule.missed).map(([reason, count]) => `${integer(Number(count))} missed: ${reason}`);
  return html`<section class="card" aria-label=${schedule.id}>
    <h2>${schedule.id} <${Status} status=${schedule.paused ? "paused" : "scheduled"} /></h2>
    <p class="muted">${[`${integer(schedule.fired)} fired`, ...missed, ...(schedule.paused_by?.reason ? [schedule.paused_by.reason] : [])].join(", ")}</p>
    ${past.length > 0 && html`<table class="rows"><caption class="unseen">History of ${schedule.id}</caption>
      <thead><tr><th>State</th><th>Time</th><th>Source</th><th class="wide">Run</th></tr></thead>
      <tbody>${past.slice(0, SHOWN_PAST).map((each) => html`<tr key=${`${each.at} ${each.source} ${each.status}`}>
        <td><${Status} status=${each.status === "missed" ? "skipped" : each.status} label=${each.status === "missed" ? "Missed" : undefined} /></td>
        <td class="nowrap">${each.at}</td><td>${each.source}</td>
        <td class="wide">${each.run_id ? html`<a href=${`#/runs/${each.run_id}`}>${each.run_id}</a>` : ""}${each.reason ? html`<span class="said muted">${each.reason}</span>` : ""}</td></tr>`)}</tbody>
    </table>`}
  </section>`;
};

/** @param {string} status @returns {(firing: any) => any} */
const open = (status) => (firing) => ({ ...firing, status });
