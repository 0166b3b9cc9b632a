// @ts-check
/** Who is there, and how far each is behind. */

import { integer } from "../lib/format.js";
import { useApp, useEvery, useLoaded, useStream, useTitle } from "../lib/hooks.js";
import { Ago, Empty, Facts, Failure, Loading, Status } from "../ui/parts.js";
import { html } from "../vendor/index.js";

/** @param {Record<string, any>} row @param {string[]} shown */
const others = (row, shown) => Object.entries(row).filter(([name, value]) => !shown.includes(name) && value !== null && typeof value !== "object");

export function System() {
  const app = useApp();
  useTitle("System");
  const { value, error, reload } = useLoaded((signal) => app.api.get("v1/system", {}, signal), []);
  useEvery(true, 2000, reload);
  useStream(null, () => undefined);
  const lag = [...(value?.lag ?? [])].sort((a, b) => b.lag - a.lag);
  const most = Math.max(1, ...lag.map((each) => each.lag));
  return html`<div class="page">
    <div class="page-head"><h1>System</h1></div>
    ${error && html`<${Failure} error=${error} onRetry=${reload} />`}
    ${!value && !error && html`<${Loading} rows=${6} />`}
    ${value && html`
      <${Facts} items=${[["Version", value.version], ["Prefix", html`<code>${value.prefix}</code>`], ["Workers", value.workers.length], ["You are", app.who.get() && `${app.who.get()?.actor}, ${app.who.get()?.role}`]]} />
      <div class="columns">
        <section class="card" aria-labelledby="workers"><h2 id="workers">Workers</h2>
          ${value.workers.length === 0 ? html`<${Empty} title="No worker is known"><p>Start one: <code>anabranch worker --agents your_agents</code></p><//>` : html`<table class="rows"><caption class="unseen">Workers</caption><thead><tr><th>State</th><th class="wide">Worker</th><th>Seen</th></tr></thead>
          <tbody>${value.workers.map((/** @type {any} */ worker) => html`<tr key=${worker.id}><td><${Status} status=${worker.alive === false ? "failed" : "completed"} label=${worker.alive === false ? "Silent" : "Alive"} /></td><td class="wide"><code>${worker.id}</code>${others(worker, ["id", "alive", "seen_at"]).map(([name, text]) => html` <span class="tag">${name.replaceAll("_", " ")}: ${text}</span>`)}</td><td><${Ago} at=${worker.seen_at} /></td></tr>`)}</tbody></table>`}
        </section>
        <section class="card" aria-labelledby="lag"><h2 id="lag">Lag</h2><p class="hint">Records that wait for each consumer group.</p>
          ${lag.length === 0 ? html`<p class="muted">Nothing is read yet.</p>` : html`<table class="rows"><caption class="unseen">Lag</caption><thead><tr><th>Group</th><th>Topic</th><th class="wide"><span class="unseen">Bar</span></th><th class="number">Lag</th></tr></thead>
          <tbody>${lag.map((each) => html`<tr key=${`${each.group} ${each.topic}`}><td><code>${each.group}</code></td><td><code>${each.topic}</code></td><td class="wide"><span class="lag-bar" aria-hidden="true"><span style=${{ width: `${(100 * each.lag) / most}%` }}></span></span></td><td class="number figure">${integer(each.lag)}</td></tr>`)}</tbody></table>`}
        </section>
        ${value.services?.length > 0 && html`<section class="card" aria-labelledby="services"><h2 id="services">Services</h2>
          <table class="rows"><caption class="unseen">Services</caption><thead><tr><th class="wide">Service</th><th>State</th></tr></thead><tbody>${value.services.map((/** @type {any} */ service, /** @type {number} */ nth) => {
            const named = typeof service === "string" ? { name: service } : service;
            const good = named.ready ?? named.alive ?? named.live ?? true;
            return html`<tr key=${nth}><td class="wide"><code>${named.name ?? named.service ?? named.id}</code>${others(named, ["name", "service", "id", "ready", "alive", "live"]).map(([name, text]) => html` <span class="tag">${name.replaceAll("_", " ")}: ${text}</span>`)}</td><td><${Status} status=${good ? "completed" : "failed"} label=${good ? "There" : "Away"} /></td></tr>`;
          })}</tbody></table></section>`}
      </div>`}
  </div>`;
}
