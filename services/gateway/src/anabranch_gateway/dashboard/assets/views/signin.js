// @ts-check
/** Asks for an API key if the gateway requires one. */

import { html, useEffect, useRef, useState } from "../vendor/index.js";
import { Icon, Logo } from "../ui/icons.js";

/** @param {{ state: any, refused: boolean }} properties */
export function SignIn({ state, refused }) {
  const dialog = useRef(/** @type {HTMLDialogElement | null} */ (null));
  const [key, setKey] = useState("");
  useEffect(() => {
    dialog.current?.showModal();
    return () => dialog.current?.close();
  }, []);
  const submit = (/** @type {Event} */ event) => {
    event.preventDefault();
    if (!key.trim()) return;
    state.key.set(key.trim());
    state.signIn.set("no");
  };
  return html`<dialog class="dialog sign-in" ref=${dialog} aria-label="Sign in" onCancel=${(/** @type {Event} */ event) => event.preventDefault()}>
    <form class="dialog-body" onSubmit=${submit}>
      <header><h2><${Logo} /> Sign in</h2></header>
      <div class="dialog-content">
        ${refused && html`<p class="notice tone-bad" role="alert">The gateway did not accept the key. It may be mistyped or revoked.</p>`}
        <label for="key">API key</label>
        <input id="key" type="password" autocomplete="current-password" spellcheck="false" placeholder="anb_…" autofocus value=${key}
          onInput=${(/** @type {any} */ event) => setKey(event.target.value)} />
        <p class="hint">Kept until this tab is closed, and sent in a header only. An operator creates keys with <code>anabranch keys create</code>.</p>
      </div>
      <footer><button type="submit" class="primary" disabled=${!key.trim()}><${Icon} name="key" />Sign in</button></footer>
    </form>
  </dialog>`;
}
