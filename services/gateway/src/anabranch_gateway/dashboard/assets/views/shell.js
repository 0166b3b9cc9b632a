// @ts-check
/** The frame of every view: navigation, connection state, theme, sign-in, confirmations, notifications, shortcuts. */

import { useObservable } from "../lib/observable.js";
import { App, useKeys } from "../lib/hooks.js";
import { go, parse } from "../lib/router.js";
import { Icon, Logo } from "../ui/icons.js";
import { Confirmation } from "../ui/dialog.js";
import { html, useEffect, useMemo, useState } from "../vendor/index.js";
import { Help } from "./help.js";
import { Approvals } from "./approvals.js";
import { DeadLetters } from "./dead_letters.js";
import { Run } from "./run.js";
import { Runs } from "./runs.js";
import { SignIn } from "./signin.js";
import { Submit } from "./submit.js";
import { System } from "./system.js";
import { Schedules } from "./schedules.js";
import { Workers } from "./workers.js";

const SECTIONS = [
  { id: "runs", label: "Runs", key: "r" },
  { id: "submit", label: "Submit", key: "s" },
  { id: "approvals", label: "Approvals", key: "a" },
  { id: "dead-letters", label: "Dead letters", key: "d" },
  { id: "schedules", label: "Schedules", key: "c" },
  { id: "workers", label: "Workers", key: "w" },
  { id: "system", label: "System", key: "y" },
];

/** @param {{ state: any }} properties */
export function Shell({ state }) {
  const route = useRoute();
  const [helping, setHelping] = useState(false);
  const app = useMemo(() => withActions(state), [state]);
  const signIn = useObservable(state.signIn);
  const caller = useObservable(state.caller);
  const question = useObservable(state.question);
  useEffect(() => {
    state.api.get("v1/whoami").then(state.caller.set, () => undefined);
  }, [signIn === "no"]);
  useShortcuts(app, () => setHelping(true));
  const section = route.path[0] ?? "runs";

  return html`<${App.Provider} value=${app}>
    <a class="skip" href="#main" onClick=${skip}>Skip to the content</a>
    <header class="top">
      <a class="brand" href="#/runs" aria-label="Anabranch, runs"><${Logo} /><span>Anabranch</span></a>
      <nav class="places" aria-label="Main">
        ${SECTIONS.map(({ id, label }) => html`<a key=${id} href=${`#/${id}`} aria-current=${id === section ? "page" : undefined}>${label}</a>`)}
      </nav>
      <div class="top-right">
        <${Connection} live=${state.live} />
        <${ThemeButton} theme=${state.theme} />
        <button type="button" class="quiet icon-button" aria-label="Keyboard shortcuts" title="Keyboard shortcuts (?)" onClick=${() => setHelping(true)}><${Icon} name="help" /></button>
        <${Account} state=${state} caller=${caller} />
      </div>
    </header>
    <main id="main" tabindex="-1">${signIn === "no" && html`<${View} route=${route} />`}</main>
    ${signIn !== "no" && html`<${SignIn} state=${state} refused=${signIn === "refused"} />`}
    ${helping && html`<${Help} onClose=${() => setHelping(false)} />`}
    ${question && html`<${Confirmation} key=${question.title} question=${question} onAnswer=${question.answer} />`}
    <${Toast} toast=${state.toast} />
  <//>`;
}

/** @param {{ route: import("../lib/router.js").Route }} properties */
function View({ route }) {
  const [first = "runs", id, tab] = route.path;
  if (first === "runs" && id) return html`<${Run} key=${id} id=${id} tab=${tab ?? "graph"} query=${route.query} />`;
  if (first === "submit") return html`<${Submit} query=${route.query} />`;
  if (first === "approvals") return html`<${Approvals} />`;
  if (first === "dead-letters") return html`<${DeadLetters} query=${route.query} />`;
  if (first === "schedules") return html`<${Schedules} />`;
  if (first === "workers") return html`<${Workers} />`;
  if (first === "system") return html`<${System} />`;
  return html`<${Runs} query=${route.query} />`;
}

function useRoute() {
  const [route, setRoute] = useState(() => parse(location.hash));
  useEffect(() => {
    const listener = () => {
      const next = parse(location.hash);
      setRoute((before) => {
        // Another page, not another filter of the same page: it is shown from its top.
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
  return route;
}

/** The app context of the views. @param {any} state */
function withActions(state) {
  let timer = 0;
  return {
    ...state,
    notify(/** @type {string} */ text, tone = "good") {
      clearTimeout(timer);
      state.toast.set({ text, tone });
      timer = window.setTimeout(() => state.toast.set(null), tone === "bad" ? 8000 : 3500);
    },
    confirm: (/** @type {import("../ui/dialog.js").Question} */ question) =>
      new Promise((resolve) => {
        const answer = (/** @type {boolean} */ yes) => (state.question.set(null), resolve(yes));
        state.question.set({ ...question, answer });
      }),
  };
}

/** @param {any} app @param {() => void} help */
function useShortcuts(app, help) {
  const [awaitsSecondKey, setAwaitsSecondKey] = useState(false);
  useEffect(() => {
    if (!awaitsSecondKey) return undefined;
    const timer = setTimeout(() => setAwaitsSecondKey(false), 1200);
    return () => clearTimeout(timer);
  }, [awaitsSecondKey]);
  const jumps = Object.fromEntries(SECTIONS.map(({ id, key }) => [key, () => (setAwaitsSecondKey(false), go(`#/${id}`))]));
  useKeys({
    "?": help,
    g: () => setAwaitsSecondKey(true),
    t: () => app.theme.set(app.theme.get() === "dark" ? "light" : "dark"),
    "/": () => /** @type {HTMLElement | null} */ (document.querySelector("main [data-search]"))?.focus(),
    ...(awaitsSecondKey ? jumps : {}),
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
  const state = useObservable(live);
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

/** @param {{ state: any, caller: any }} properties */
function Account({ state, caller }) {
  if (state.key.get() === null) return null;
  const signOut = () => {
    state.key.set(null);
    state.caller.set(null);
    state.signIn.set("wanted");
  };
  const name = caller ? `${caller.actor}, ${caller.role}` : "Signed in";
  return html`<button type="button" class="quiet account" title=${`${name}: sign out`} onClick=${signOut}><span class="account-name">${caller?.actor ?? "Signed in"}</span><${Icon} name="out" /><span class="unseen">Sign out</span></button>`;
}

/** @param {{ toast: any }} properties */
function Toast({ toast }) {
  const shown = /** @type {any} */ (useObservable(toast));
  return html`<div class="toasts" aria-live="polite">${shown && html`<div class=${`toast tone-${shown.tone}`}>${shown.text}</div>`}</div>`;
}
