// @ts-check
/** Translates pointer, wheel and pinch events on an element into pans, zooms and taps. */

/** Pixels that a pointer may move during a tap. */
const MAX_TAP_DISTANCE = 5;

/**
 * @param {HTMLElement} element
 * @param {{
 *   pan: (dx: number, dy: number) => void,
 *   zoom: (left: number, top: number, factor: number) => void,
 *   tap: (left: number, top: number, twice: boolean) => void,
 *   hover: (left: number, top: number) => void,
 *   leave: () => void,
 * }} callbacks
 * @returns {() => void} stops listening
 */
export function gestures(element, callbacks) {
  /** @type {Map<number, { x: number, y: number }>} */
  const pointers = new Map();
  let travelled = 0;
  const signal = new AbortController();
  const on = (/** @type {string} */ type, /** @type {(event: any) => void} */ listener, options = {}) =>
    element.addEventListener(type, listener, { signal: signal.signal, ...options });

  const at = (/** @type {MouseEvent} */ event) => {
    const box = element.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };

  on("pointerdown", (/** @type {PointerEvent} */ event) => {
    if (event.button !== 0) return;
    // Captured, so that a drag that leaves the element still ends here.
    element.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, at(event));
    if (pointers.size === 1) travelled = 0;
  });
  on("pointermove", (/** @type {PointerEvent} */ event) => {
    const here = at(event);
    const before = pointers.get(event.pointerId);
    if (!before) return callbacks.hover(here.x, here.y);
    travelled += Math.hypot(here.x - before.x, here.y - before.y);
    if (pointers.size === 1 && travelled > MAX_TAP_DISTANCE) callbacks.pan(here.x - before.x, here.y - before.y);
    if (pointers.size === 2) pinch(event.pointerId, before, here);
    pointers.set(event.pointerId, here);
  });
  const up = (/** @type {PointerEvent} */ event) => {
    if (!pointers.delete(event.pointerId) || pointers.size || travelled > MAX_TAP_DISTANCE) return;
    const here = at(event);
    if (event.type === "pointerup") callbacks.tap(here.x, here.y, event.detail > 1);
  };
  on("pointerup", up);
  on("pointercancel", up);
  on("pointerleave", () => callbacks.leave());
  on(
    "wheel",
    (/** @type {WheelEvent} */ event) => {
      event.preventDefault();
      // Firefox reports lines instead of pixels for some devices.
      const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
      if (event.shiftKey) return callbacks.pan(-(event.deltaX || event.deltaY) * lines, 0);
      const { x, y } = at(event);
      // Browsers report a pinch on a touchpad as a wheel event with Ctrl, whose steps are smaller.
      callbacks.zoom(x, y, Math.exp(-Math.max(-120, Math.min(120, event.deltaY * lines)) * (event.ctrlKey ? 0.01 : 0.0022)));
    },
    { passive: false }, // a passive listener could not prevent the page from scrolling
  );
  return () => signal.abort();

  /** @param {number} id @param {{ x: number, y: number }} before @param {{ x: number, y: number }} here */
  function pinch(id, before, here) {
    const [, other] = [...pointers].find(([each]) => each !== id) ?? [];
    if (!other) return;
    const factor = Math.hypot(here.x - other.x, here.y - other.y) / Math.max(1, Math.hypot(before.x - other.x, before.y - other.y));
    callbacks.zoom((here.x + other.x) / 2, (here.y + other.y) / 2, factor);
    callbacks.pan((here.x - before.x) / 2, (here.y - before.y) / 2);
    travelled += MAX_TAP_DISTANCE; // a pinch is never a tap
  }
}
