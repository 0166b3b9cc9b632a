// @ts-check
/** Tabs as links, each with a route of its own. */

import { html, useEffect, useRef } from "../vendor/index.js";

/** @param {{ label: string, current: string, tabs: { id: string, label: string, href: string, badge?: any }[] }} properties */
export function Tabs({ label, current, tabs }) {
  const list = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => {
    const chosen = list.current?.querySelector("[aria-current]");
    chosen?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }, [current]);
  return html`<nav class="tabs" aria-label=${label} ref=${list}>
    ${tabs.map((tab) => html`<a key=${tab.id} href=${tab.href} aria-current=${tab.id === current ? "page" : undefined}>${tab.label}${tab.badge !== undefined && tab.badge !== null && html` <span class="count">${tab.badge}</span>`}</a>`)}
  </nav>`;
}
