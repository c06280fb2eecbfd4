// Small helpers for the document. Data enters it as text nodes only, never as markup.

/** The element with this id. */
export const byId = (id) => document.getElementById(id);

/** A new element with attributes and children; strings become text nodes. */
export function element(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
        if (value !== null && value !== false) node.setAttribute(name, value === true ? "" : value);
    }
    node.append(...children);
    return node;
}

/** A new SVG element with attributes and an optional text. */
export function svgElement(tag, attributes = {}, text = null) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    if (text !== null) node.textContent = text;
    return node;
}

/** Shows a message in a notice, or hides the notice for null. */
export function setNotice(notice, message) {
    if (message !== null && notice.textContent === message) return; // Don't announce it again.
    notice.textContent = message ?? "";
    notice.hidden = message === null;
    if (message !== null) notice.scrollIntoView({ block: "nearest" });
}

/** Switches a pair of buttons between idle and busy, and keeps the focus on the one that is enabled. */
export function setBusy(start, stop, isBusy) {
    const [off, on] = isBusy ? [start, stop] : [stop, start];
    const hadFocus = document.activeElement === off;
    on.disabled = false;
    if (hadFocus) on.focus();
    off.disabled = true;
}
