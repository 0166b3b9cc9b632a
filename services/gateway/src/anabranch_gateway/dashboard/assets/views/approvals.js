// @ts-check
/** The inbox: what waits for the decision of a person, with a form made from its schema. */

import { pathOf } from "../lib/api.js";
import { useApp, useEvery, useLoaded, useStream, useTitle } from "../lib/hooks.js";
import { useObservable } from "../lib/observable.js";
import { format } from "../lib/router.js";
import { Json } from "../ui/json.js";
import { Ago, Details, Empty, Failure, Loading } from "../ui/components.js";
import { html, useState } from "../vendor/index.js";

const ANONYMOUS = "anonymous";

export function Approvals() {
  const app = useApp();
  useTitle("Approvals");
  const { value, error, reload } = useLoaded((signal) => app.api.get("v1/approvals", {}, signal), []);
  useEvery(true, 5000, reload);
  useStream(null, () => undefined);
  const approvals = value?.approvals ?? [];
  return html`<div class="page">
    <div class="page-head"><h1>Approvals</h1></div>
    <p class="lead">Tasks that wait for the decision of a person, the longest wait first.</p>
    ${error && html`<${Failure} error=${error} onRetry=${reload} />`}
    ${!value && !error && html`<${Loading} rows=${4} />`}
    ${value && approvals.length === 0 && html`<${Empty} title="Nothing to decide"><p>Tasks with an <code>approval</code> appear here while they wait.</p><//>`}
    ${approvals.map((/** @type {any} */ approval) => html`<${Approval} key=${keyOf(approval)} approval=${approval} onDecided=${reload} />`)}
  </div>`;
}

/** @param {any} approval */
const keyOf = (approval) => [approval.run_id, approval.group, approval.task, approval.index, approval.since].join("/");

/** @param {any} approval */
const placeOf = (approval) => `${approval.group} / ${approval.task}${approval.index === null ? "" : ` [${approval.index}]`}`;

/** @param {{ approval: any, onDecided: () => void }} properties */
export function Approval({ approval, onDecided }) {
  const app = useApp();
  const caller = useObservable(app.caller);
  const [data, setData] = useState(/** @type {Record<string, any>} */ (defaultsOf(approval.form)));
  const [comment, setComment] = useState("");
  const [by, setBy] = useState("");
  const [refusal, setRefusal] = useState(/** @type {any} */ (null));
  const [busy, setBusy] = useState(false);
  const mayAct = caller?.role !== "viewer";
  const title = approval.subject || placeOf(approval);

  const decide = async (/** @type {string} */ decision) => {
    setBusy(true);
    setRefusal(null);
    /** @type {Record<string, unknown>} */
    const body = { decision };
    if (approval.form && decision !== "reject") body.data = data;
    if (approval.index !== null) body.index = approval.index;
    if (comment) body.comment = comment;
    if (by) body.by = by;
    try {
      const counted = await app.api.post(`v1/runs/${pathOf(approval.run_id)}/approvals/${pathOf(approval.group, approval.task)}`, body);
      app.notify(counted.ended ? `Decided: ${decision}` : `Counted: ${decision}. More people have to decide.`);
      onDecided();
    } catch (failure) {
      setRefusal(failure);
    } finally {
      setBusy(false);
    }
  };

  return html`<section class="card approval" aria-label=${`Approval ${title}`}>
    <header><h2>${title}</h2><p class="muted"><a href=${format(["runs", approval.run_id])}>${approval.run_name || approval.run_id}</a> · ${placeOf(approval)} · since <${Ago} at=${approval.since} /></p></header>
    ${typeof approval.body === "string" ? html`<p class="approval-body">${approval.body}</p>` : approval.body !== null && approval.body !== undefined && html`<${Json} value=${approval.body} label="the body" />`}
    <${Details} items=${[
      ["Who decides", approval.assignees.join(", ")],
      ["Decisions", approval.required > 1 ? `${approval.decisions.length} of ${approval.required}` : null],
      ["So far", approval.decisions.map((/** @type {any} */ each) => `${each.by ?? "somebody"}: ${each.decision}`).join(", ")],
      ["Until", approval.until === null ? null : html`<${Ago} at=${approval.until} />`],
    ]} />
    ${mayAct && html`<form class="approval-form" onSubmit=${(/** @type {Event} */ event) => event.preventDefault()}>
      ${Object.entries(approval.form?.properties ?? {}).map(([name, schema]) => html`<${Field} key=${name} name=${name} schema=${schema}
        required=${(approval.form.required ?? []).includes(name)} value=${data[name]}
        problem=${problemOf(refusal, name)}
        onValue=${(/** @type {any} */ found) => setData({ ...data, [name]: found })} />`)}
      ${caller?.actor === ANONYMOUS && html`<label class="stacked">Your name <input value=${by} autocomplete="name" onInput=${(/** @type {any} */ event) => setBy(event.target.value)} /></label>`}
      <label class="stacked">Comment <textarea rows="2" value=${comment} onInput=${(/** @type {any} */ event) => setComment(event.target.value)}></textarea></label>
      ${refusal && html`<${Failure} error=${refusal} />`}
      <div class="actions">${approval.options.map((/** @type {string} */ option, /** @type {number} */ nth) => html`<button type="button" key=${option} disabled=${busy} class=${option === "reject" ? "dangerous" : nth === 0 ? "primary" : ""} onClick=${() => decide(option)}>${label(option)}</button>`)}</div>
    </form>`}
  </section>`;
}

/** @param {string} option */
const label = (option) => option.charAt(0).toUpperCase() + option.slice(1).replaceAll("_", " ");

/** The message about a field in a refusal. @param {any} refusal @param {string} name */
const problemOf = (refusal, name) =>
  refusal?.problem?.errors?.find((/** @type {any} */ each) => each.path === `/data/${name}`)?.message;

/** @param {any} form */
const defaultsOf = (form) =>
  Object.fromEntries(Object.entries(form?.properties ?? {}).flatMap(([name, schema]) => (schema?.default === undefined ? [] : [[name, schema.default]])));

/**
 * One field of a form: its kind follows from the type in the schema; anything else is written as JSON.
 * @param {{ name: string, schema: any, required: boolean, value: any, problem?: string, onValue: (value: any) => void }} properties
 */
function Field({ name, schema, required, value, problem, onValue }) {
  const text = `${schema.title ?? name}${required ? "" : " (optional)"}`;
  const hint = schema.description && html`<span class="hint">${schema.description}</span>`;
  const error = problem && html`<span class="tone-bad" role="alert">${problem}</span>`;
  const invalid = problem ? "true" : undefined;
  if (Array.isArray(schema.enum)) {
    return html`<label class="stacked">${text} <select aria-invalid=${invalid} value=${value === undefined ? "" : String(schema.enum.indexOf(value))} onChange=${(/** @type {any} */ event) => onValue(schema.enum[Number(event.target.value)])}>
      <option value="" disabled>choose</option>${schema.enum.map((/** @type {any} */ each, /** @type {number} */ nth) => html`<option key=${nth} value=${nth}>${String(each)}</option>`)}</select>${hint}${error}</label>`;
  }
  if (schema.type === "boolean") {
    return html`<label class="check"><input type="checkbox" checked=${value === true} onChange=${(/** @type {any} */ event) => onValue(event.target.checked)} /> ${text}${hint}${error}</label>`;
  }
  if (schema.type === "number" || schema.type === "integer") {
    return html`<label class="stacked">${text} <input type="number" step=${schema.type === "integer" ? 1 : "any"} min=${schema.minimum} max=${schema.maximum} aria-invalid=${invalid} value=${value ?? ""} onInput=${(/** @type {any} */ event) => onValue(event.target.value === "" ? undefined : Number(event.target.value))} />${hint}${error}</label>`;
  }
  if (schema.type === "string") {
    return html`<label class="stacked">${text} <input aria-invalid=${invalid} maxlength=${schema.maxLength} value=${value ?? ""} onInput=${(/** @type {any} */ event) => onValue(event.target.value === "" && !required ? undefined : event.target.value)} />${hint}${error}</label>`;
  }
  return html`<${JsonField} text=${text} value=${value} hint=${hint} error=${error} onValue=${onValue} />`;
}

/** @param {{ text: string, value: any, hint: any, error: any, onValue: (value: any) => void }} properties */
function JsonField({ text, value, hint, error, onValue }) {
  const [draft, setDraft] = useState(value === undefined ? "" : JSON.stringify(value));
  const [isWrong, setWrong] = useState(false);
  const read = (/** @type {string} */ written) => {
    setDraft(written);
    try {
      onValue(written.trim() === "" ? undefined : JSON.parse(written));
      setWrong(false);
    } catch {
      setWrong(true);
    }
  };
  return html`<label class="stacked">${text}, as JSON <textarea rows="2" spellcheck="false" aria-invalid=${isWrong ? "true" : undefined} value=${draft} onInput=${(/** @type {any} */ event) => read(event.target.value)}></textarea>${hint}${isWrong ? html`<span class="tone-bad" role="alert">this is not JSON</span>` : error}</label>`;
}
