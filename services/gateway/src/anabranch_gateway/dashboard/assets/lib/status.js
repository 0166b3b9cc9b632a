// @ts-check
/**
 * Appearance of each status: a colour, and a shape for people who cannot distinguish colours. SVG and canvas use the
 * same outlines, in a box of 16 by 16.
 */

/** @typedef {{ label: string, tone: string, path: string, filled: boolean, open: boolean }} Appearance */

const RING = "M8 1.75a6.25 6.25 0 1 0 0 12.5a6.25 6.25 0 1 0 0-12.5Z";
const DISC_CHECK = `${RING}M4.9 8.3l2.2 2.2l4.2-4.7l-1.1-1l-3.2 3.6l-1.1-1.1Z`;
const DISC_CROSS = `${RING}M5.2 6.2L7 8L5.2 9.8l1 1L8 9l1.8 1.8l1-1L9 8l1.8-1.8l-1-1L8 7L6.2 5.2Z`;
const HOLLOW = `${RING}M8 3.5a4.5 4.5 0 1 1 0 9a4.5 4.5 0 1 1 0-9Z`;
const HALF = `${RING}M8 3.5v9a4.5 4.5 0 0 0 0-9Z`;
const SQUARE = "M2.5 2.5h11v11h-11ZM5 7v2h6V7Z";
const CLOCK = `${RING}M7.1 4v4.6l3 1.9l.9-1.4l-2.3-1.4V4Z`;
const DIAMOND_SKIP = "M8 1L15 8L8 15L1 8ZM8 3.6L3.6 8L8 12.4L12.4 8Z";
const BARS = "M3.5 2.5h3.2v11H3.5ZM9.3 2.5h3.2v11H9.3Z";
const SHIELD = "M8 1.2L14 3.6v4.6c0 3.4-2.6 5.6-6 6.8c-3.4-1.2-6-3.4-6-6.8V3.6ZM7 5v6h2V5Z";
const HOURGLASS = "M3 1.5h10v2.2L9.6 8l3.4 4.3v2.2H3v-2.2L6.4 8L3 3.7ZM5 3.3L8 7l3-3.7ZM8 9l-3 3.7h6Z";
const DOTTED = "M8 5.5a2.5 2.5 0 1 0 0 5a2.5 2.5 0 1 0 0-5ZM8 1.75a6.25 6.25 0 1 0 0 12.5a6.25 6.25 0 1 0 0-12.5ZM8 3.2a4.8 4.8 0 1 1 0 9.6a4.8 4.8 0 1 1 0-9.6Z";

/** @type {Record<string, Appearance>} */
const APPEARANCES = {
  waiting: appearance("Waiting", "idle", HOLLOW, true),
  accepted: appearance("Accepted", "idle", DOTTED, true),
  scheduled: appearance("Scheduled", "idle", CLOCK, true),
  awaiting: appearance("Awaiting", "held", HOURGLASS, true),
  queued: appearance("Queued", "idle", DOTTED, true),
  running: appearance("Running", "running", HALF, true),
  retrying: appearance("Retrying", "running", HALF, true),
  compensating: appearance("Compensating", "held", HALF, true),
  paused: appearance("Paused", "held", BARS, true),
  held: appearance("Held", "held", SHIELD, true),
  completed: appearance("Completed", "good", DISC_CHECK, false),
  failed: appearance("Failed", "bad", DISC_CROSS, false),
  rejected: appearance("Rejected", "bad", DISC_CROSS, false),
  skipped: appearance("Skipped", "idle", DIAMOND_SKIP, false),
  cancelled: appearance("Cancelled", "stopped", SQUARE, false),
  timed_out: appearance("Timed out", "late", CLOCK, false),
};

/** @param {string} label @param {string} tone @param {string} path @param {boolean} open @returns {Appearance} */
function appearance(label, tone, path, open) {
  return { label, tone, path, filled: true, open };
}

/** @param {string | null | undefined} status @returns {Appearance} */
export function appearanceOf(status) {
  return APPEARANCES[status ?? "waiting"] ?? appearance(String(status), "idle", DOTTED, true);
}

/** All tones. */
export const TONES = ["idle", "running", "held", "good", "bad", "stopped", "late"];

export const RUN_STATUSES = ["accepted", "scheduled", "queued", "running", "compensating", "completed", "failed", "cancelled", "timed_out"];

/** True if a run with this status may still change. @param {string | null | undefined} status */
export const isOpen = (status) => appearanceOf(status).open;

/** The displayed status of a run: `paused` for an open run that is paused. @param {{ status: string, paused?: unknown }} run */
export const shownStatus = (run) => (isOpen(run.status) && run.paused ? "paused" : run.status);
