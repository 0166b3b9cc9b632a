// @ts-check
/** One run: its header, actions and tabs. */

import { ApiError, pathOf } from "../lib/api.js";
import { counted, integer, used } from "../lib/format.js";
import { useApp, useCoalesced, useEvery, useKeys, useLoaded, useStream, useTitle } from "../lib/hooks.js";
import { format, go } from "../lib/router.js";
import { taskRows, totals } from "../lib/run.js";
import { isOpen, shownStatus } from "../lib/status.js";
import { Icon, StatusIcon } from "../ui/icons.js";
import { Ago, Failure, Id, Loading, Progress, Status, Took } from "../ui/components.js";
import { Tabs } from "../ui/tabs.js";
import { html, useCallback, useEffect, useRef } from "../vendor/index.js";
import { ContextTab } from "./run/context.js";
import { EventsTab } from "./run/events.js";
import { GraphTab } from "./run/graph.js";
import { LogsTab } from "./run/logs.js";
import { MembersTab } from "./run/members.js";
import { ResultsTab } from "./run/results.js";
import { TimelineTab } from "./run/timeline.js";
import { WhyTab } from "./run/why.js";

const TABS = [
  { id: "graph", label: "Graph", view: GraphTab },
  { id: "timeline", label: "Timeline", view: TimelineTab },
  { id: "members", label: "Members", view: MembersTab },
  { id: "results", label: "Results", view: ResultsTab },
  { id: "events", label: "Events", view: EventsTab },
  { id: "logs", label: "Logs", view: LogsTab },
  { id: "context", label: "Context", view: ContextTab },
  { id: "why", label: "Why", view: WhyTab },
];

/** Events after which the view is loaded again; events of members are not among them: there may be a million. */
const STRUCTURE_EVENTS = ["run.*", "group.*", "task.expanded", "task.joined", "task.skipped", "task.cancelled"].join(",");
const FINAL = new Set(["run.completed", "run.failed", "run.cancelled", "run.timed_out"]);
/** Maximum attempts to load a run that was just submitted: its view exists a moment later. */
const MAX_TRIES = 12;

/** @param {{ id: string, tab: string, query: Record<string, string> }} properties */
export function Run({ id, tab, query }) {
  const { api, submitted } = useApp();
  const tries = useRef(0);
  const path = `v1/runs/${pathOf(id)}`;
  const { value: view, error, reload, took } = useLoaded((signal) => api.get(path, {}, signal), [id]);
  const open = view ? isOpen(view.status) : false;
  // Loaded in parallel with the view, which then replaces its statuses.
  const graph = useLoaded((signal) => api.get(`${path}/graph`, {}, signal), [id]);
  const isLoaded = Boolean(view);
  useEffect(() => {
    if (isLoaded && graph.error) void graph.reload();
  }, [isLoaded]);
  // Compensations are tasks that the request does not have: the graph is loaded again when they appear.
  const undone = Object.keys(view?.groups?.compensate?.tasks ?? {}).length;
  const isOld = Boolean(graph.value) && graph.value.nodes.filter((/** @type {any} */ node) => node.phase === "compensate").length < undone;
  useEffect(() => {
    if (isOld) void graph.reload();
  }, [undone, isOld]);
  const isJustSubmitted = !isLoaded && error?.status === 404 && submitted.get() === id && tries.current < MAX_TRIES;
  const reloadSoon = useCoalesced(() => void reload(), 300);
  useTitle(view?.name || id);
  useStream(
    isLoaded ? { path: `${path}/events`, query: { types: STRUCTURE_EVENTS } } : null,
    reloadSoon,
    useCallback((/** @type {any} */ message) => FINAL.has(message.event), []),
  );
  useEvery(open || isJustSubmitted || error?.status === 0, Math.max(1000, 8 * took), () => {
    if (isJustSubmitted) tries.current += 1;
    return reload();
  });
  const actions = useActions(id, view, reload);
  useKeys({
    ...Object.fromEntries(TABS.map((each, nth) => [String(nth + 1), () => go(format(["runs", id, each.id]))])),
    ...Object.fromEntries(actions.filter((each) => each.shown).map((each) => [each.key, () => void each.run()])),
  });

  if (!view && isJustSubmitted) return html`<div class="page"><${Waiting} id=${id} /></div>`;
  if (!view && error?.status === 404) return html`<div class="page"><${Unknown} id=${id} /></div>`;
  if (!view) return html`<div class="page">${error ? html`<${Failure} error=${error} onRetry=${reload} />` : html`<${Loading} rows=${8} />`}</div>`;
  const selected = TABS.find((each) => each.id === tab) ?? TABS[0];
  const tabs = TABS.map((each) => ({ ...each, href: format(["runs", id, each.id]) }));
  return html`<div class="page run">
    <${Head} view=${view} nodes=${graph.value?.nodes} actions=${actions} />
    ${error && html`<${Failure} error=${error} onRetry=${reload} />`}
    <${Tabs} label="Views of this run" current=${selected.id} tabs=${tabs} />
    <section class=${`tab tab-${selected.id}`} aria-label=${selected.label}><${selected.view} id=${view.run_id} view=${view} graph=${graph} open=${open} query=${query} /></section>
  </div>`;
}

/** @param {{ view: any, nodes: any[] | undefined, actions: Action[] }} properties */
function Head({ view, nodes, actions }) {
  const sums = totals(taskRows(view), nodes);
  const shown = actions.filter((each) => each.shown);
  return html`<div class="run-head">
    <p class="trail"><a href="#/runs">Runs</a></p>
    <div class="page-head">
      <h1>${view.name || "Run without a name"}</h1>
      <div class="actions">${shown.map((each) => html`<button type="button" key=${each.id} class=${each.dangerous ? "dangerous" : ""} title=${`${each.label} (${each.key})`} onClick=${each.run}><${Icon} name=${each.icon} />${each.label}</button>`)}</div>
    </div>
    <div class="run-facts">
      <span role="status"><${Status} status=${shownStatus(view)} /></span>
      <span class="run-progress"><${Progress} counts=${{ ...sums, share: view.share }} open=${isOpen(view.status)} /></span>
      <span>${counted(sums.members, "member")} of ${counted(sums.tasks, "task")}${sums.failed > 0 && html`, <strong class="tone-bad">${integer(sums.failed)} failed</strong>`}${sums.held > 0 && html`, <a href="#/dead-letters">${integer(sums.held)} held for a decision</a>`}</span>
      <span class="muted">submitted <${Ago} at=${view.submitted_at} /></span>
      <span class="muted">${isOpen(view.status) ? "for" : "took"} <${Took} from=${view.started_at ?? view.submitted_at} to=${view.ended_at} /></span>
      ${view.costs && html`<span>used ${used(view.costs)}</span>`}
      <${Id} id=${view.run_id} label="run id" />
      ${view.project && view.project !== "default" && html`<span class="tag">project: ${view.project}</span>`}
      ${Object.entries(view.labels ?? {}).map(([name, text]) => html`<span class="tag" key=${name}>${name}: ${text}</span>`)}
      ${view.parent && html`<span class="muted">sub-run of <a href=${format(["runs", view.parent.run_id, "graph"], { open: `${view.parent.group}/${view.parent.task}` })}>${view.parent.group}/${view.parent.task}</a></span>`}
      ${view.forked_from && html`<span class="muted">fork of <a href=${format(["runs", view.forked_from])}>${view.forked_from.slice(0, 12)}…</a></span>`}
      ${view.retry_of && html`<span class="muted">retry of <a href=${format(["runs", view.retry_of])}>${view.retry_of.slice(0, 12)}…</a></span>`}
    </div>
    ${view.waits_for && html`<p class="waits tone-late" role="status"><${StatusIcon} status="held" size=${14} /> Waiting: ${view.waits_for}</p>`}
    ${view.failures?.length > 0 && html`<${FirstFailure} view=${view} />`}
  </div>`;
}

/** @param {{ view: any }} properties */
function FirstFailure({ view }) {
  const first = view.failures[0];
  const index = first.index ?? "-";
  const href = format(["runs", view.run_id, "members"], { task: `${first.group}/${first.task}`, status: "failed", member: index });
  const more = (view.failure_count ?? view.failures.length) - 1;
  const link = html`<a href=${href}>${first.task}${first.index === null || first.index === undefined ? "" : ` [${first.index}]`}</a>`;
  return html`<p class="first-failure">${first.task ? link : "The run"}
    <span><code>${first.error_type}</code> ${first.message}</span>
    ${more > 0 && html`<span class="muted nowrap">and ${integer(more)} more</span>`}</p>`;
}

/** @typedef {{ id: string, label: string, icon: string, key: string, shown: boolean, dangerous?: boolean, run: () => Promise<void> }} Action */

/** @param {string} id @param {any} view @param {() => Promise<void>} reload @returns {Action[]} */
function useActions(id, view, reload) {
  const app = useApp();
  const caller = app.caller.get();
  const mayAct = caller?.role !== "viewer";
  const open = Boolean(view) && isOpen(view.status);
  const act = async (/** @type {string} */ name, /** @type {any} */ question, /** @type {string} */ message) => {
    if (question && !(await app.confirm(question))) return;
    try {
      const response = await app.api.post(`v1/runs/${pathOf(id)}/${name}`, name === "retry" ? {} : undefined);
      app.notify(message);
      if (name === "retry") app.submitted.set(response.run_id);
      if (name === "retry") go(format(["runs", response.run_id]));
      else await reload();
    } catch (error) {
      app.notify(error instanceof ApiError ? `${error.problem.title}: ${error.message}` : String(error), "bad");
    }
  };
  const paused = Boolean(view?.paused);
  return [
    {
      id: "pause", label: paused ? "Resume" : "Pause", icon: paused ? "play" : "pause", key: "p", shown: mayAct && open,
      run: () => paused
        ? act("resume", null, "The run resumes")
        : act("pause", { title: "Pause this run?", text: "Running members finish, and no further ones start, until you resume the run.", action: "Pause" }, "The run pauses"),
    },
    {
      id: "cancel", label: "Cancel", icon: "stop", key: "c", shown: mayAct && open, dangerous: true,
      run: () => act("cancel", { title: "Cancel this run?", text: "Running members are stopped, and no further ones start. Existing results are kept. This cannot be undone.", action: "Cancel the run", dangerous: true }, "The run is being cancelled"),
    },
    {
      id: "retry", label: "Retry failed tasks", icon: "retry", key: "e", shown: mayAct && Boolean(view) && !open && view.status !== "completed",
      run: () => act("retry", { title: "Retry failed tasks?", text: "Starts a new run that imports all results of this one and runs the other tasks again.", action: "Retry" }, "A new run has started"),
    },
  ];
}

/** @param {{ id: string }} properties */
const Waiting = ({ id }) => html`<div><p class="trail"><a href="#/runs">Runs</a></p><h1>Just submitted</h1><p class="muted" role="status">Run <code>${id}</code> is accepted. Its first events appear in a moment.</p><${Loading} rows=${8} /></div>`;

/** @param {{ id: string }} properties */
const Unknown = ({ id }) => html`<p class="trail"><a href="#/runs">Runs</a></p><h1>There is no such run</h1><div class="empty">
  <p>There is no run <code>${id}</code>: it may have expired, or belong to a project that your key has no access to.</p>
  <p><a href="#/runs">All runs</a></p>
</div>`;
