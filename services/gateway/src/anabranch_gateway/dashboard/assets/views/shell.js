// @ts-check
/** What is around every view: navigation, the state of the connection, theme, sign-in, questions, news, shortcuts. */

import { useCell } from "../lib/cells.js";
import { App, useKeys } from "../lib/hooks.js";
import { go, parse } from "../lib/router.js";
import { Icon, Logo } from "../ui/icons.js";
import { Confirmation } from "../ui/dialog.js";
import { html, useEffect, useMemo, useState } from "../vendor/index.js";
import { Help } from "./help.js";
import { Letters } from "./letters.js";
import { Run } from "./run.js";
import { Runs } from "./runs.js";
import { SignIn } from "./signin.js";
import { Submit } from "./submit.js";
import { System } from "./system.js";

const PLACES = [
  { id: "runs", label: "Runs", key: "r" },
  { id: "submit", label: "Submit", key: "s" },
  { id: "dead-letters", label: "Dead letters", key: "d" },
  { id: "system", label: "System", key: "y" },
];

/** @param {{ parts: any }} properties */
export function Shell({ parts }) {
  const place = usePlace();
  const [helping, setHelping] = useState(false);
  const app = useMemo(() => withActions(parts), [parts]);
  const signIn = useCell(parts.signIn);
  const who = useCell(parts.who);
  const question = useCell(parts.question);
  useEffect(() => {
    parts.api.get("v1/whoami").then(parts.who.set, () => undefined);
  }, [signIn === "no"]);
  useShortcuts(app, () => setHelping(true));
  const here = place.path[0] ?? "runs";

  return html`<${App.Provider} value=${app}>
    <a class="skip" href="#main" onClick=${skip}>Skip to the content</a>
    <header class="top">
      <a class="brand" href="#/runs" aria-label="Anabranch, runs"><${Logo} /><span>Anabranch</span></a>
      <nav class="places" aria-label="Main">
        ${PLACES.map(({ id, label }) => html`<a key=${id} href=${`#/${id}`} aria-current=${id === here ? "page" : undefined}>${label}</a>`)}
      </nav>
      <div class="top-right">
        <${Connection} live=${parts.live} />
        <${ThemeButton} theme=${parts.theme} />
        <button type="button" class="quiet icon-button" aria-label="Keyboard shortcuts" title="Keyboard shortcuts (?)" onClick=${() => setHelping(true)}><${Icon} name="help" /></button>
        <${Account} parts=${parts} who=${who} />
      </div>
    </header>
    <main id="main" tabindex="-1">${signIn === "no" && html`<${View} place=${place} />`}</main>
    ${signIn !== "no" && html`<${SignIn} parts=${parts} refused=${signIn === "refused"} />`}
    ${helping && html`<${Help} onClose=${() => setHelping(false)} />`}
    ${question && html`<${Confirmation} key=${question.title} question=${question} onAnswer=${question.answer} />`}
    <${Toast} toast=${parts.toast} />
  <//>`;
}

/** @param {{ place: import("../lib/router.js").Place }} properties */
function View({ place }) {
  const [first = "runs", id, tab] = place.path;
  if (first === "runs" && id) return html`<${Run} key=${id} id=${id} tab=${tab ?? "graph"} query=${place.query} />`;
  if (first === "submit") return html`<${Submit} query=${place.query} />`;
  if (first === "dead-letters") return html`<${Letters} query=${place.query} />`;
  if (first === "system") return html`<${System} />`;
  return html`<${Runs} query=${place.query} />`;
}

function usePlace() {
  const [place, setPlace] = useState(() => parse(location.hash));
  useEffect(() => {
    const listener = () => {
      const next = parse(location.hash);
      setPlace((before) => {
        // Another page, not another filter of it: read on from its top.
        if (before.path.slice(0, 2).join() !== next.path.slice(0, 2).join()) {
          scrollTo(0, 0);
          document.getElementById("main")?.focus({ preventScroll: true });
        }
        return next;
      });
    };
    addEventListener("hashchange", listener);
    return () => removeEventListener("hashchange", listener);
  }, []);
  return place;
}

/** The app as views see it. @param {any} parts */
function withActions(parts) {
  let timer = 0;
  return {
    ...parts,
    say(/** @type {string} */ text, tone = "good") {
      clearTimeout(timer);
      parts.toast.set({ text, tone });
      timer = window.setTimeout(() => parts.toast.set(null), tone === "bad" ? 8000 : 3500);
    },
    confirm: (/** @type {import("../ui/dialog.js").Question} */ question) =>
      new Promise((resolve) => {
        const answer = (/** @type {boolean} */ yes) => (parts.question.set(null), resolve(yes));
        parts.question.set({ ...question, answer });
      }),
  };
}

/** @param {any} app @param {() => void} help */
function useShortcuts(app, help) {
  const [leading, setLeading] = useState(false);
  useEffect(() => {
    if (!leading) return undefined;
    const timer = setTimeout(() => setLeading(false), 1200);
    return () => clearTimeout(timer);
  }, [leading]);
  const jumps = Object.fromEntries(PLACES.map(({ id, key }) => [key, () => (setLeading(false), go(`#/${id}`))]));
  useKeys({
    "?": help,
    g: () => setLeading(true),
    t: () => app.theme.set(app.theme.get() === "dark" ? "light" : "dark"),
    "/": () => /** @type {HTMLElement | null} */ (document.querySelector("main [data-search]"))?.focus(),
    ...(leading ? jumps : {}),
  });
}

/** @param {MouseEvent} event */
function skip(event) {
  event.preventDefault();
  document.getElementById("main")?.focus();
}

const STATES = /** @type {Record<string, [string, string]>} */ ({
  connecting: ["Connecting", "Opening the live connection"],
  live: ["Live", "Changes are shown as they happen"],
  reconnecting: ["Reconnecting", "The live connection was lost. It is being opened again, and misses no event"],
  ended: ["Final", "This run has ended and does not change any more"],
  off: ["", ""],
});

/** @param {{ live: any }} properties */
function Connection({ live }) {
  const state = useCell(live);
  const [label, title] = STATES[/** @type {string} */ (state)];
  return html`<span class=${`connection is-${state}`} role="status" title=${title}>${label && html`<span class="dot" aria-hidden="true"></span>${label}`}</span>`;
}

/** @param {{ theme: any }} properties */
function ThemeButton({ theme }) {
  const [current, setCurrent] = useState(theme.get());
  useEffect(() => theme.watch(setCurrent), [theme]);
  const other = current === "dark" ? "light" : "dark";
  return html`<button type="button" class="quiet icon-button" aria-label=${`Use the ${other} theme`} title=${`Use the ${other} theme (t)`} onClick=${() => theme.set(other)}>
    <${Icon} name=${other === "dark" ? "moon" : "sun"} />
  </button>`;
}

/** @param {{ parts: any, who: any }} properties */
function Account({ parts, who }) {
  if (parts.key.get() === null) return null;
  const signOut = () => {
    parts.key.set(null);
    parts.who.set(null);
    parts.signIn.set("wanted");
  };
  const name = who ? `${who.actor}, ${who.role}` : "Signed in";
  return html`<button type="button" class="quiet account" title=${`${name}: sign out`} onClick=${signOut}><span class="account-name">${who?.actor ?? "Signed in"}</span><${Icon} name="out" /><span class="unseen">Sign out</span></button>`;
}

/** @param {{ toast: any }} properties */
function Toast({ toast }) {
  const shown = /** @type {any} */ (useCell(toast));
  return html`<div class="toasts" aria-live="polite">${shown && html`<div class=${`toast tone-${shown.tone}`}>${shown.text}</div>`}</div>`;
}
