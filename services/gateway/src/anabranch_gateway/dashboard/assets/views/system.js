// @ts-check
/** Services, workers, and the lag of each consumer group. */

import { counted, integer } from "../lib/format.js";
import { useApp, useEvery, useLoaded, useStream, useTitle } from "../lib/hooks.js";
import { Empty, Details, Failure, Loading, Status } from "../ui/components.js";
import { html } from "../vendor/index.js";

const COMMANDS = /** @type {Record<string, string>} */ ({
  agency: "anabranch agency",
  taskgroup: "anabranch taskgroup --agents your_agents",
  eventmanager: "anabranch eventmanager",
});

export function System() {
  const app = useApp();
  useTitle("System");
  const { value, error, reload } = useLoaded((signal) => app.api.get("v1/system", {}, signal), []);
  useEvery(true, 2500, reload);
  useStream(null, () => undefined);
  const caller = app.caller.get();
  return html`<div class="page">
    <div class="page-head"><h1>System</h1></div>
    ${error && html`<${Failure} error=${error} onRetry=${reload} />`}
    ${!value && !error && html`<${Loading} rows=${6} />`}
    ${value && html`
      <${Details} items=${[["Version", value.version], ["Name prefix", html`<code>${value.prefix}</code>`], ["Unprocessed records", integer(value.lag.reduce((/** @type {number} */ sum, /** @type {any} */ each) => sum + each.lag, 0))], ["Signed in as", caller && `${caller.actor}, ${caller.role}`]]} />
      <div class="columns">
        <div class="column"><${Services} services=${value.services} /><${Workers} workers=${value.workers} /></div>
        <${Lag} rows=${value.lag} />
      </div>`}
  </div>`;
}

/** @param {{ services: any[] }} properties */
const Services = ({ services }) => html`<section class="card" aria-labelledby="services"><h2 id="services">Services</h2>
  <table class="rows"><caption class="unseen">Services</caption>
    <thead><tr><th>State</th><th class="wide">Service</th><th class="number">Processes</th></tr></thead>
    <tbody>${services.map((service) => html`<tr key=${service.name}>
      <td><${Status} status=${service.running ? "completed" : "failed"} label=${service.running ? "Running" : "Not running"} /></td>
      <td class="wide">${service.name}${!service.running && html`<span class="said muted">Start it: <code>${COMMANDS[service.name] ?? service.name}</code></span>`}</td>
      <td class="number figure">${integer(service.members)}</td></tr>`)}</tbody>
  </table></section>`;

/** @param {{ workers: any[] }} properties */
const Workers = ({ workers }) => html`<section class="card" aria-labelledby="workers"><h2 id="workers">Workers</h2>
  ${workers.length === 0
    ? html`<${Empty} title="No workers yet"><p>A worker appears here when it starts its first member. Start one with <code>${COMMANDS.taskgroup}</code></p><//>`
    : html`<table class="rows"><caption class="unseen">Workers</caption>
      <thead><tr><th>State</th><th class="wide">Worker</th><th class="number">Recent runs</th></tr></thead>
      <tbody>${workers.map((worker) => html`<tr key=${worker.id}>
        <td><${Status} status=${worker.alive ? "completed" : "failed"} label=${worker.alive ? "Alive" : "No heartbeat"} /></td>
        <td class="wide"><code>${worker.id}</code></td><td class="number figure">${integer(worker.runs)}</td></tr>`)}</tbody>
    </table>`}
</section>`;

/** @param {{ rows: any[] }} properties */
function Lag({ rows }) {
  const maxLag = Math.max(1, ...rows.map((each) => each.lag));
  return html`<section class="card" aria-labelledby="lag"><h2 id="lag">Lag</h2>
    <p class="hint">Records on a topic whose processing is not committed yet.</p>
    <table class="rows"><caption class="unseen">Lag by consumer group</caption>
      <thead><tr><th class="wide">Topic and consumer group</th><th>Partitions</th><th class="number">Lag</th></tr></thead>
      <tbody>${rows.map((row) => html`<tr key=${`${row.group} ${row.topic}`}>
        <td class="wide"><code>${row.topic}</code><span class="said muted">${row.group}</span>
          <span class="lag-bar" aria-hidden="true"><span style=${{ width: `${(100 * row.lag) / maxLag}%` }}></span></span></td>
        <td class="nowrap">${row.unowned > 0 ? html`<${Status} status="failed" label=${`${integer(row.unowned)} of ${integer(row.partitions)} without a consumer`} />` : counted(row.partitions, "partition")}</td>
        <td class="number figure">${integer(row.lag)}</td></tr>`)}</tbody>
    </table></section>`;
}
