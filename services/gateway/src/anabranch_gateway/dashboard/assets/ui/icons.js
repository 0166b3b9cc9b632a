// @ts-check
/** Icons, hidden from screen readers: an icon with a meaning has a text beside it. */

import { appearanceOf } from "../lib/status.js";
import { html } from "../vendor/index.js";

const PATHS = /** @type {Record<string, string>} */ ({
  copy: "M5.5 5.5v-3h8v8h-3M2.5 5.5h8v8h-8z",
  check: "M3 8.5l3.2 3.2L13 5",
  search: "M7 2.5a4.5 4.5 0 1 0 0 9a4.5 4.5 0 1 0 0-9M10.4 10.4L14 14",
  sun: "M8 5.2a2.8 2.8 0 1 0 0 5.6a2.8 2.8 0 1 0 0-5.6M8 1v1.6M8 13.4V15M1 8h1.6M13.4 8H15M3 3l1.2 1.2M11.8 11.8L13 13M13 3l-1.2 1.2M4.2 11.8L3 13",
  moon: "M13.5 9.6A5.8 5.8 0 0 1 6.4 2.5a5.8 5.8 0 1 0 7.1 7.1Z",
  help: "M5.6 6a2.4 2.4 0 1 1 3.6 2.1c-.8.5-1.2.9-1.2 1.8M8 12.4v.4",
  plus: "M8 3v10M3 8h10",
  minus: "M3 8h10",
  fit: "M2.5 6V2.5H6M10 2.5h3.5V6M13.5 10v3.5H10M6 13.5H2.5V10",
  close: "M4 4l8 8M12 4l-8 8",
  next: "M6 3.5L10.5 8L6 12.5",
  previous: "M10 3.5L5.5 8L10 12.5",
  stop: "M4 4h8v8H4z",
  pause: "M5.5 3v10M10.5 3v10",
  play: "M5 3.2v9.6L12.5 8z",
  retry: "M13 8a5 5 0 1 1-1.6-3.7M13.2 2v3h-3",
  key: "M10 2.5a3.5 3.5 0 1 1-2.6 5.8L3 12.7V13.5h2.2v-1.6h1.6l1.6-1.8",
  out: "M6 2.5H2.5v11H6M10 5l3 3l-3 3M13 8H6",
});

/** @param {{ name: string, size?: number }} properties */
export function Icon({ name, size = 16 }) {
  return html`<svg class="icon" viewBox="0 0 16 16" width=${size} height=${size} aria-hidden="true" fill="none"
    stroke="currentColor" stroke-width="1.5" stroke-linecap="round" stroke-linejoin="round">
    <path d=${PATHS[name]} />
  </svg>`;
}

/** @param {{ status: string | null | undefined, size?: number }} properties */
export function StatusIcon({ status, size = 16 }) {
  const appearance = appearanceOf(status);
  return html`<svg class=${`icon status-icon tone-${appearance.tone}`} viewBox="0 0 16 16" width=${size} height=${size}
    aria-hidden="true"><path d=${appearance.path} fill="currentColor" fill-rule="evenodd" /></svg>`;
}

/** @param {{ size?: number }} properties */
export function Logo({ size = 22 }) {
  return html`<svg class="logo" viewBox="0 0 24 24" width=${size} height=${size} aria-hidden="true" fill="none"
    stroke="currentColor" stroke-width="2.4" stroke-linecap="round">
    <path d="M2 12h3.5c4 0 3.5-7 8-7 4 0 3.8 7 8.5 7" /><path d="M5.5 12c4 0 3.5 7 8 7 4 0 3.8-7 8.5-7" class="logo-branch" />
  </svg>`;
}
