// @ts-check
/** Editor for a request, with a preview of its plan, and its submission. */

import { ApiError } from "../lib/api.js";
import { flowText, planFlow, shownName } from "../lib/flow.js";
import { bytes, counted, integer } from "../lib/format.js";
import { useApp, useStream, useTitle } from "../lib/hooks.js";
import { EXAMPLES } from "../lib/examples.js";
import { locate } from "../lib/pointer.js";
import { format, go } from "../lib/router.js";
import { Graph } from "../ui/graph.js";
import { StatusIcon } from "../ui/icons.js";
import { Empty, Failure } from "../ui/components.js";
import { html, useEffect, useMemo, useRef, useState } from "../vendor/index.js";

const DRAFT = "anabranch.draft";

/** The content type of a text: JSON begins with a brace. @param {string} text */
const typeOf = (text) => (/^\s*[{[]/.test(text) ? "application/json" : "application/yaml");

export function Submit() {
  const app = useApp();
  useTitle("Submit");
  useStream(null, () => undefined);
  const [text, setText] = useState(loadDraft);
  const [plan, setPlan] = useState(/** @type {any} */ (null));
  const [refusal, setRefusal] = useState(/** @type {any} */ (null));
  const [busy, setBusy] = useState("");
  const editor = useRef(/** @type {HTMLTextAreaElement | null} */ (null));
  const plannedText = useRef("");
  useEffect(() => saveDraft(text), [text]);

  const runExclusively = async (/** @type {string} */ action, /** @type {() => Promise<void>} */ run) => {
    setBusy(action);
    setRefusal(null);
    try {
      await run();
    } catch (error) {
      setRefusal(error);
    } finally {
      setBusy("");
    }
  };
  const preview = () => runExclusively("plan", async () => {
    plannedText.current = text;
    setPlan(await app.api.post("v1/plan", text, { type: typeOf(text) }));
  });
  const submit = () => runExclusively("submit", async () => {
    const response = await app.api.post("v1/runs", text, { type: typeOf(text) });
    app.notify("Submitted");
    app.submitted.set(response.run_id);
    go(format(["runs", response.run_id]));
  });
  const jump = (/** @type {string} */ pointer) => {
    const area = editor.current;
    if (!area) return;
    const range = locate(text, pointer);
    area.focus();
    area.setSelectionRange(range.start, range.end);
    area.scrollTop = Math.max(0, (range.line - 4) * lineHeight(area));
  };
  const errors = refusal?.problem?.errors ?? (plan && !plan.valid ? plan.errors : []);

  return html`<div class="page submit">
    <div class="page-head"><h1>Submit a request</h1>
      <div class="actions"><button type="button" disabled=${busy !== "" || !text.trim()} title="Ctrl + Enter" onClick=${preview}>Preview the plan</button>
      <button type="button" class="primary" disabled=${busy !== "" || !text.trim()} onClick=${submit}>${busy === "submit" ? "Submitting" : "Submit"}</button></div></div>
    <div class="submit-columns">
      <div class="editor-side">
        <div class="toolbar"><label for="request">Request, as YAML or JSON</label><span class="grow"></span>
          <label class="field">Start with <select value="" onChange=${(/** @type {any} */ event) => { setText(EXAMPLES[Number(event.target.value)].text); setPlan(null); setRefusal(null); event.target.value = ""; }}><option value="" disabled>an example</option>${EXAMPLES.map((example, nth) => html`<option key=${nth} value=${nth}>${example.name}</option>`)}</select></label></div>
        <${Editor} text=${text} onText=${setText} area=${editor} errors=${errors} onPlan=${preview} />
      </div>
      <div class="plan-side" aria-live="polite">
        ${refusal && !errors.length && html`<${Failure} error=${refusal} />`}
        ${errors.length > 0 && html`<${Errors} errors=${errors} text=${text} onJump=${jump} />`}
        ${plan?.valid && !refusal && html`<${Plan} plan=${plan} isOutdated=${plannedText.current !== text} />`}
        ${!plan && !refusal && html`<${Empty} title="No plan yet"><p>Preview the plan to see levels, members and errors before anything starts.</p><p><kbd>Ctrl</kbd> + <kbd>Enter</kbd> in the editor previews it too.</p><//>`}
      </div>
    </div>
  </div>`;
}

/** @param {{ text: string, onText: (text: string) => void, area: any, errors: any[], onPlan: () => void }} properties */
function Editor({ text, onText, area, errors, onPlan }) {
  const gutter = useRef(/** @type {HTMLElement | null} */ (null));
  const lines = text.split("\n").length;
  const wrong = useMemo(() => new Set(errors.map((error) => locate(text, error.path ?? "").line)), [errors, text]);
  const onKey = (/** @type {KeyboardEvent} */ event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      onPlan();
    }
  };
  return html`<div class="editor">
    <div class="editor-gutter" ref=${gutter} aria-hidden="true">${Array.from({ length: lines }, (_, nth) => html`<div key=${nth} class=${wrong.has(nth + 1) ? "is-wrong" : ""}>${nth + 1}</div>`)}</div>
    <textarea id="request" ref=${area} spellcheck="false" autocapitalize="off" autocomplete="off" wrap="off" data-search value=${text}
      aria-invalid=${errors.length > 0 ? "true" : "false"} aria-describedby="mistakes" onKeyDown=${onKey}
      onInput=${(/** @type {any} */ event) => onText(event.target.value)}
      onScroll=${(/** @type {any} */ event) => { if (gutter.current) gutter.current.scrollTop = event.target.scrollTop; }}></textarea>
  </div>`;
}

/** @param {{ errors: any[], text: string, onJump: (pointer: string) => void }} properties */
function Errors({ errors, text, onJump }) {
  return html`<section class="mistakes" id="mistakes" aria-label="Errors" role="alert">
    <h2 class="tone-bad"><${StatusIcon} status="failed" /> ${counted(errors.length, "error")}: the request would be rejected</h2>
    <ol>${errors.map((error, nth) => html`<li key=${nth}>
      <button type="button" class="link" onClick=${() => onJump(error.path ?? "")}><code>${error.path || "/"}</code><span class="muted">line ${locate(text, error.path ?? "").line}</span></button>
      <p>${error.message} <span class="muted">(${error.code})</span></p>${error.hint && html`<p class="hint">${error.hint}</p>`}</li>`)}</ol>
  </section>`;
}

/** @param {{ plan: any, isOutdated: boolean }} properties */
function Plan({ plan, isOutdated }) {
  const levels = useMemo(() => new Map(plan.levels.flatMap((/** @type {string[]} */ level, /** @type {number} */ nth) => level.map((label) => [label, nth]))), [plan]);
  const nodes = useMemo(() => plan.tasks.map((/** @type {any} */ task) => ({
    id: `${task.group}/${task.name}`, group: task.group, task: task.name, agent: task.agent, status: "waiting", level: levels.get(`${task.group}/${task.name}`),
    expanded: task.members !== 1 && task.kind !== "switch" && task.kind !== "loop", members: task.members, started_at: null, ended_at: null, result_keys: task.result_keys,
    ...planFlow(task, plan.tasks),
  })), [plan]);
  const [chosen, setChosen] = useState(-1);
  const task = plan.tasks[chosen];
  return html`<section aria-label="Plan" class=${isOutdated ? "plan is-old" : "plan"}>
    <h2><${StatusIcon} status="completed" /> ${counted(plan.counts.executions, "execution")} of ${counted(plan.counts.tasks, "task")} in ${counted(plan.levels.length, "level")}</h2>
    <p class="muted">${counted(plan.counts.task_groups, "group")}, ${bytes(plan.bytes)}${isOutdated ? " · the text has changed since" : ""}</p>
    ${plan.warnings.map((/** @type {string} */ warning) => html`<p class="notice tone-stopped">${warning}</p>`)}
    <${Graph} nodes=${nodes} edges=${plan.edges ?? []} selected=${chosen} label=${`Plan of ${counted(nodes.length, "task")}`} onOpen=${setChosen} />
    <p class="plan-task" aria-live="polite">${task ? html`<strong>${shownName(nodes[chosen])}</strong>${task.agent ? html` runs <code>${task.agent}</code>` : ` (${flowText(nodes[chosen])})`}${task.agent && flowText(nodes[chosen]) && ` (${flowText(nodes[chosen])})`}${task.members === null ? ", the number of members is known once its array exists" : task.members !== 1 && `, ${integer(task.members)} members`}${task.dependencies.length > 0 && html`, depends on ${task.dependencies.map((/** @type {string} */ key) => html`<code key=${key}>${key}</code> `)}`}${html`, produces ${task.result_keys.map((/** @type {string} */ key) => html`<code key=${key}>${key}</code> `)}`}` : html`<span class="muted">Choose a task to see its dependencies and results.</span>`}</p>
  </section>`;
}

/** @param {HTMLElement} area */
const lineHeight = (area) => parseFloat(getComputedStyle(area).lineHeight) || 20;

function loadDraft() {
  try {
    return sessionStorage.getItem(DRAFT) || EXAMPLES[1].text;
  } catch {
    return EXAMPLES[1].text;
  }
}

/** @param {string} text */
function saveDraft(text) {
  try {
    sessionStorage.setItem(DRAFT, text);
  } catch {
    // Without storage the draft is lost with the page.
  }
}
