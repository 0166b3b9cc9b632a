// @ts-check
/** The run's lifecycle events, live. Only the last few thousand are kept, and only visible rows are rendered. */

import { pathOf } from "../../lib/api.js";
import { placeOfEvent } from "../../lib/flow.js";
import { integer } from "../../lib/format.js";
import { useApp } from "../../lib/hooks.js";
import { follow } from "../../lib/live.js";
import { appearanceOf } from "../../lib/status.js";
import { absolute, clock } from "../../lib/time.js";
import { Choice, Empty } from "../../ui/components.js";
import { StatusIcon } from "../../ui/icons.js";
import { Virtual } from "../../ui/virtual.js";
import { html, useEffect, useRef, useState } from "../../vendor/index.js";

const MAX_EVENTS = 5000;
const FINAL = new Set(["run.completed", "run.failed", "run.cancelled", "run.timed_out"]);
const KINDS = [{ value: "", label: "All" }, { value: "run.*", label: "Run" }, { value: "group.*", label: "Groups" }, { value: "task.*", label: "Tasks" }, { value: "task.failed,task.retrying", label: "Failures" }];

/** The status in an event. @param {{ type: string, status?: string }} event */
export function statusOfEvent({ type, status }) {
  const what = type.split(".").at(-1) ?? "";
  if (what === "joined") return status ?? "completed";
  return { started: "running", expanded: "running", progress: "running", resumed: "running", waiting: "held", retrying: "retrying", log: "accepted" }[what] ?? what;
}

/**
 * The events of a run, collected for 80 ms, so that many events cause one rendering.
 * @param {string} id
 * @param {string} types
 */
export function useEvents(id, types) {
  const { api } = useApp();
  const [events, setEvents] = useState(/** @type {any[]} */ ([]));
  const [dropped, setDropped] = useState(0);
  const [ended, setEnded] = useState(false);
  const unflushed = useRef(/** @type {any[]} */ ([]));
  useEffect(() => {
    unflushed.current = [];
    setEvents([]);
    setDropped(0);
    setEnded(false);
    let frame = 0;
    const flush = () => {
      frame = 0;
      const added = unflushed.current;
      unflushed.current = [];
      setEvents((before) => {
        const all = [...before, ...added];
        if (all.length > MAX_EVENTS) setDropped((count) => count + all.length - MAX_EVENTS);
        return all.slice(-MAX_EVENTS);
      });
    };
    const stop = follow({
      open: (after, signal) => api.stream(`v1/runs/${pathOf(id)}/events`, { types }, after, signal),
      onMessage: (message) => {
        unflushed.current.push(JSON.parse(message.data));
        frame ||= window.setTimeout(flush, 80);
      },
      onState: (state) => state === "ended" && setEnded(true),
      isLast: (message) => FINAL.has(message.event),
    });
    return () => (stop(), clearTimeout(frame));
  }, [id, types]);
  return { events, dropped, ended };
}

/** @param {{ id: string, open: boolean }} properties */
export function EventsTab({ id, open }) {
  const [types, setTypes] = useState("");
  const [following, setFollowing] = useState(open);
  const { events, dropped } = useEvents(id, types);
  return html`<div class="events">
    <div class="toolbar">
      <${Choice} label="Kind" options=${KINDS} value=${types} onChange=${setTypes} />
      <label class="check"><input type="checkbox" checked=${following} onChange=${(/** @type {any} */ event) => setFollowing(event.target.checked)} />Follow</label>
      <span class="muted" role="status">${integer(events.length + dropped)} events${dropped > 0 ? `, the last ${integer(MAX_EVENTS)} shown` : ""}</span>
    </div>
    ${events.length === 0 ? html`<${Empty} title="No events yet"><p>Events appear here as they happen.</p><//>` : html`<${Virtual} rows=${events} height=${26} label="Events" follow=${following} row=${(/** @type {any} */ event) => html`<${EventRow} event=${event} />`} />`}
  </div>`;
}

/** @param {{ event: any }} properties */
function EventRow({ event }) {
  const status = statusOfEvent(event);
  return html`<div class="event-row">
    <time title=${absolute(event.time)}>${clock(event.time)}</time>
    <span class=${`event-type tone-${appearanceOf(status).tone}`}><${StatusIcon} status=${status} size=${13} />${event.type}</span>
    <span class="cut">${placeOfEvent(event)}${event.index === null || event.index === undefined ? "" : ` [${event.index}]`}${event.attempt > 1 ? ` · attempt ${event.attempt}` : ""}</span>
    <span class="cut muted">${eventText(event)}</span>
  </div>`;
}

const KNOWN = new Set(["type", "time", "seq", "run_id", "group", "task", "index", "attempt", "iteration", "in_loop"]);

/** @param {any} event */
function eventText(event) {
  if (event.error_type) return `${event.error_type}: ${event.message ?? ""}`;
  if (event.message) return event.message;
  const rest = Object.entries(event).filter(([name, value]) => !KNOWN.has(name) && value !== null);
  return rest.map(([name, value]) => `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`).join("  ");
}
