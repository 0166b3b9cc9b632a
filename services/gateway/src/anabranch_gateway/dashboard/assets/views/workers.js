// @ts-check
/** The live workers with their load, the agents that they have, and the limits that runs share. */

import { integer } from "../lib/format.js";
import { useApp, useEvery, useLoaded, useStream, useTitle } from "../lib/hooks.js";
import { duration } from "../lib/time.js";
import { Ago, Empty, Failure, Loading, Status } from "../ui/components.js";
import { html } from "../vendor/index.js";
import { Limits } from "./limits.js";

const START = "anabranch taskgroup --agents your_agents";

export function Workers() {
  const app = useApp();
  useTitle("Workers");
  const workers = useLoaded((signal) => app.api.get("v1/workers", {}, signal), []);
  const agents = useLoaded((signal) => app.api.get("v1/agents", {}, signal), []);
  // Read from the log, so less often. A gateway may be without it: then nothing is shown of it.
  const limits = useLoaded((signal) => app.api.get("v1/limits", {}, signal), []);
  useEvery(true, 10000, () => limits.reload());
  useEvery(true, 2500, () => (workers.reload(), agents.reload()));
  useStream(null, () => undefined);
  const error = workers.error ?? agents.error;
  return html`<div class="page">
    <div class="page-head"><h1>Workers</h1></div>
    ${error && html`<${Failure} error=${error} onRetry=${() => (workers.reload(), agents.reload())} />`}
    ${!(workers.value && agents.value) && !error && html`<${Loading} rows=${6} />`}
    ${workers.value && agents.value && html`<${Live} workers=${workers.value.workers} /><${Agents} agents=${agents.value.agents} />`}
    ${limits.value && html`<${Limits} limits=${limits.value.limits} />`}
  </div>`;
}

/** @param {{ workers: any[] }} properties */
const Live = ({ workers }) => html`<section class="card" aria-labelledby="live"><h2 id="live">Live workers</h2>
  ${workers.length === 0
    ? html`<${Empty} title="No worker runs"><p>Start one with <code>${START}</code></p><//>`
    : html`<table class="rows"><caption class="unseen">Live workers</caption>
      <thead><tr><th>State</th><th class="wide">Worker</th><th>Pool</th><th class="number">Members</th><th class="number">Chunks</th><th>Started</th></tr></thead>
      <tbody>${workers.map((worker) => html`<tr key=${worker.id}>
        <td><${Status} status=${worker.draining ? "paused" : "completed"} label=${worker.draining ? "Draining" : "Live"} /></td>
        <td class="wide"><code>${worker.id}</code><span class="said muted">${worker.host}, process ${worker.pid}, version ${worker.version}</span></td>
        <td>${worker.pool}</td>
        <td class="number figure">${integer(worker.load.members)} of ${integer(worker.slots)}</td>
        <td class="number figure">${integer(worker.load.chunks)}</td>
        <td class="nowrap">${worker.started_at !== null && html`<${Ago} at=${worker.started_at} />`}</td></tr>`)}</tbody>
    </table>`}
</section>`;

/** @param {{ agents: any[] }} properties */
const Agents = ({ agents }) => html`<section class="card" aria-labelledby="agents"><h2 id="agents">Agents</h2>
  ${agents.length === 0
    ? html`<${Empty} title="No agents"><p>A worker announces the agents of the modules that it was started with.</p><//>`
    : html`<table class="rows"><caption class="unseen">Agents</caption>
      <thead><tr><th class="wide">Agent</th><th>Capabilities</th><th class="number">Workers</th><th class="number">Slots</th><th class="number">Timeout</th></tr></thead>
      <tbody>${agents.map((agent) => html`<tr key=${`${agent.name} ${agent.version} ${agent.workers[0]}`}>
        <td class="wide">${agent.name}${agent.version && html`<span class="said muted">version ${agent.version}</span>`}${agent.kind !== "in-process" && html`<span class="said muted">${agent.kind}</span>`}</td>
        <td>${agent.capabilities.join(", ")}</td>
        <td class="number figure">${integer(agent.workers.length)}</td>
        <td class="number figure">${integer(agent.slots)}</td>
        <td class="number figure">${agent.timeout === null ? "" : duration(agent.timeout)}</td></tr>`)}</tbody>
    </table>`}
</section>`;
