// @ts-check
/** Dialogs and the drawer, as the browser's own `<dialog>`, which keeps the focus inside. */

import { html, useEffect, useRef } from "../vendor/index.js";
import { Icon } from "./icons.js";

/** @typedef {{ title: string, text: any, action: string, dangerous?: boolean }} Question */

/**
 * @param {{ title: string, onClose: () => void, kind?: "dialog" | "drawer", children?: any, footer?: any, heading?: any }} properties
 */
export function Dialog({ title, onClose, kind = "dialog", children, footer, heading }) {
  const element = useRef(/** @type {HTMLDialogElement | null} */ (null));
  useEffect(() => {
    const dialog = element.current;
    const before = document.activeElement;
    dialog?.showModal();
    return () => {
      dialog?.close();
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, []);
  // The backdrop is a part of the dialog element; its content is in child elements.
  const onBackdrop = (/** @type {MouseEvent} */ event) => {
    if (event.target === element.current) onClose();
  };
  return html`<dialog ref=${element} class=${kind} aria-label=${title} onClick=${onBackdrop}
    onCancel=${(/** @type {Event} */ event) => (event.preventDefault(), onClose())}>
    <div class="dialog-body">
      <header><h2>${heading ?? title}</h2>
        <button type="button" class="quiet icon-button" aria-label="Close" title="Close (Esc)" onClick=${onClose}><${Icon} name="close" /></button>
      </header>
      <div class="dialog-content" tabindex="-1" autofocus=${kind === "drawer"}>${children}</div>
      ${footer && html`<footer>${footer}</footer>`}
    </div>
  </dialog>`;
}

/** @param {{ question: Question, onAnswer: (yes: boolean) => void }} properties */
export function Confirmation({ question, onAnswer }) {
  const footer = html`
    <button type="button" autofocus=${question.dangerous} onClick=${() => onAnswer(false)}>Go back</button>
    <button type="button" class=${question.dangerous ? "dangerous" : "primary"} autofocus=${!question.dangerous} onClick=${() => onAnswer(true)}>${question.action}</button>`;
  return html`<${Dialog} title=${question.title} onClose=${() => onAnswer(false)} footer=${footer}><p>${question.text}</p><//>`;
}
